import os
import signal
from pathlib import Path

import pytest
import torch

from scalegan.errors import CheckpointError, TrainingError
from scalegan.train import checkpoint
from scalegan.train.guard import (
    ATTEMPTS,
    BadSteps,
    Signals,
    newest,
    read_attempt,
    roll_back,
    write_attempt,
)
from scalegan.train.step import train_step
from tests.support import tiny

NAMES = ["a", "b", "c"]


def test_three_bad_steps_in_a_row_are_too_many() -> None:
    bad_steps = BadSteps()
    assert [bad_steps.note(False, step, "d/r1") for step in (7, 8, 9)] == [False, False, True]
    assert (bad_steps.in_a_row, bad_steps.rollbacks) == (0, 1)
    assert bad_steps.seen == ["step 7: d/r1", "step 8: d/r1", "step 9: d/r1"]


def test_a_good_step_forgives() -> None:
    bad_steps = BadSteps()
    assert not any(bad_steps.note(step % 3 == 0, step, "x") for step in range(20))
    assert bad_steps.in_a_row == 1


def test_after_three_rollbacks_it_is_over() -> None:
    bad_steps = BadSteps()
    for _ in range(3):
        assert [bad_steps.note(False, 5, "g/adversarial") for _ in range(3)][-1]
    bad_steps.note(False, 5, "g/adversarial")
    bad_steps.note(False, 6, "g/adversarial")
    with pytest.raises(TrainingError) as caught:
        bad_steps.note(False, 7, "real samples")
    assert str(caught.value) == (
        "after 3 rollbacks, 3 steps in a row up to step 7 had values that are not finite again; "
        "first bad tensors: step 5: g/adversarial; step 6: g/adversarial; step 7: real samples"
    )
    assert "optim.learning_rate" in caught.value.hint


def test_attempts_are_written_down(tmp_path: Path) -> None:
    assert read_attempt(tmp_path) == 0
    for attempt in (1, 2):
        write_attempt(tmp_path, {"attempt": attempt})
        assert read_attempt(tmp_path) == attempt
    (tmp_path / ATTEMPTS).write_text("[]")
    with pytest.raises(CheckpointError, match=r"`.*attempts.json` cannot be read: IndexError"):
        read_attempt(tmp_path)


def test_rolling_back_restores_and_raises_the_attempt(tmp_path: Path) -> None:
    state, said = tiny.state(), list[str]()
    train_step(state, [[tiny.batch()]])
    checkpoint.save_checkpoint(tmp_path / "checkpoints", state, NAMES)
    saved = {name: v.clone() for name, v in checkpoint.state_tensors(state).items()}
    train_step(state, [[tiny.batch()]])
    event = roll_back(state, tmp_path, NAMES, ["step 2: d/r1"], said.append)
    assert (state.step, state.images_seen, state.attempt) == (1, 4, 1)
    for name, value in checkpoint.state_tensors(state).items():
        assert torch.equal(value, saved[name]), name
    assert event == {
        "event": "rollback", "attempt": 1, "from_step": 2, "to_step": 1, "bad": ["step 2: d/r1"]
    }  # fmt: skip
    assert read_attempt(tmp_path) == 1
    assert said == [
        f"rolled back from step 2 to `{tmp_path / 'checkpoints' / 'step-00000001'}`; attempt 1"
    ]


def test_the_attempt_is_written_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tiny.state()
    checkpoint.save_checkpoint(tmp_path / "checkpoints", state, NAMES)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "restore_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        roll_back(state, tmp_path, NAMES, ["x"], print)
    assert read_attempt(tmp_path) == 1 and state.attempt == 0


def test_without_a_checkpoint_it_goes_on_with_other_dice(tmp_path: Path) -> None:
    state, said = tiny.state(), list[str]()
    state.step = 3
    roll_back(state, tmp_path, NAMES, ["x"], said.append)
    assert (state.step, state.attempt) == (3, 1)
    assert "where it is, for there is no checkpoint yet" in said[0]


def test_the_newest_is_found_for_all(tmp_path: Path) -> None:
    state = tiny.state()
    assert newest(tmp_path, state.world, print) is None
    for state.step in (3, 12):
        checkpoint.save_checkpoint(tmp_path, state, NAMES)
    assert newest(tmp_path, state.world, print) == tmp_path / "step-00000012"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_become_a_wish(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.is_wished()
        os.kill(os.getpid(), number)
        assert signals.is_wished() and signals.agree(tiny.state().world) == number
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
