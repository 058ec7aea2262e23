import math
import os
import signal

import pytest
import torch

from scalegan.errors import TrainingError
from scalegan.train.guard import BadSteps, Signals

INFINITY = torch.tensor(math.inf)


def test_three_bad_steps_in_a_row_end_a_run() -> None:
    bad_steps = BadSteps()
    report = {"d/r1": torch.tensor(math.nan), "d/r2": torch.ones(()), "g/grad_norm": INFINITY}
    bad_steps.note(False, 7, report)
    bad_steps.note(False, 8, report)
    with pytest.raises(TrainingError) as caught:
        bad_steps.note(False, 9, report)
    assert str(caught.value) == (
        "3 steps in a row up to step 9 had values that are not finite: d/r1, g/grad_norm"
    )
    assert "optim.learning_rate" in caught.value.hint


def test_a_good_step_forgives() -> None:
    bad_steps = BadSteps()
    for step in range(20):
        bad_steps.note(step % 3 == 0, step, {})
    assert bad_steps.in_a_row == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_become_a_wish(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
