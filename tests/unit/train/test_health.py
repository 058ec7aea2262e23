from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalegan.data.memory import Rows, hold_out
from scalegan.errors import ConfigError
from scalegan.interfaces import Batch
from scalegan.runtime.log import Log, read_metrics
from scalegan.train.checkpoint import state_tensors
from scalegan.train.health import IN_A_ROW, WARM_UP, Health, build_probe, diversity_rows, spread
from tests.support import tiny

GOOD = {
    "health/diversity": 0.9, "health/training_logits": 2.0, "health/held_out_logits": 1.8,
    "health/fake_logits": 0.0, "health/logit_gap": 2.0, "health/sign_rate": 0.95,
    "g/grad_norm": 1.0, "d/r1_penalty": 0.05, "d/r2_penalty": 0.05,
}  # fmt: skip
BAD = {
    "collapse": {"health/diversity": 0.2},
    "overfitting discriminator": {"health/held_out_logits": 0.3},
    "discriminator has won": {
        "health/sign_rate": 1.0, "health/logit_gap": 50.0, "health/training_logits": 50.0,
        "health/held_out_logits": 49.0,
    },
    "vanishing gradient": {"g/grad_norm": 0.001},
    "penalty r1": {"d/r1_penalty": 30.0},
    "penalty r2": {"d/r2_penalty": 30.0},
}  # fmt: skip


def warm() -> Health:
    return Health([GOOD] * WARM_UP)


@pytest.mark.parametrize("name", BAD)
def test_each_alarm_sounds_once_and_alone(name: str) -> None:
    health = warm()
    found = [health.read(GOOD | BAD[name]) for _ in range(3 * IN_A_ROW)]
    assert [list(alarms) for alarms in found] == [
        [name] if i == IN_A_ROW - 1 else [] for i in range(3 * IN_A_ROW)
    ]
    sentence = found[IN_A_ROW - 1][name]
    assert "; " in sentence and "usually" in sentence and not sentence.endswith(".")


@pytest.mark.parametrize("name", BAD)
def test_a_few_bad_lines_are_none(name: str) -> None:
    health = warm()
    for _ in range(5):
        for _ in range(IN_A_ROW - 1):
            assert health.read(GOOD | BAD[name]) == {}
        assert health.read(GOOD) == {}


def test_nothing_is_judged_before_a_band_is_known() -> None:
    health = Health()
    for _ in range(WARM_UP - 1):
        assert all(health.read(GOOD | bad) == {} for bad in BAD.values())
        health = Health()


def test_a_band_does_not_follow_a_collapse() -> None:
    health = warm()
    for _ in range(100):
        health.read(GOOD | BAD["collapse"])
    health.read(GOOD)
    found = [health.read(GOOD | BAD["collapse"]) for _ in range(IN_A_ROW)]
    assert list(found[-1]) == ["collapse"], "the second episode is an alarm too"


def test_a_line_without_the_values_is_no_line() -> None:
    assert Health([{"step": 1, "event": "rollback"}, {"alarm": "collapse"}]).read({}) == {}


def test_a_resumed_health_goes_on_as_one_that_was_not_stopped() -> None:
    lines = [GOOD] * WARM_UP + [GOOD | BAD["collapse"]] * (IN_A_ROW + 2)
    whole, told = Health(), []
    for line in lines:
        told.append(whole.read(line))
    for cut in range(len(lines)):
        health = Health(lines[:cut])
        assert [health.read(line) for line in lines[cut:]] == told[cut:]


def test_an_alarm_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, health = Log(tmp_path, True, 0), warm()
    for step in range(1, IN_A_ROW + 1):
        health.record(log, step, 4 * step, GOOD | BAD["collapse"])
    *lines, alarm = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, IN_A_ROW + 1))
    assert alarm["alarm"] == "collapse" and alarm["step"] == IN_A_ROW
    assert f"alarm at step {IN_A_ROW}: collapse: images of one class" in capsys.readouterr().out
    assert alarm["says"] in (tmp_path / "log.txt").read_text()


def probe_of(held_out: Batch | None = None) -> tuple:
    state = tiny.state()
    return state, build_probe(state, tiny.rows(), held_out, ["a", "b", "c"])


def test_a_probe_changes_nothing_and_is_the_same_every_time() -> None:
    state, probe = probe_of(tiny.batch())
    before = {name: value.clone() for name, value in state_tensors(state).items()}
    first, second = probe(state), probe(state)
    assert first == second
    assert all(torch.equal(value, before[n]) for n, value in state_tensors(state).items())
    assert all(network.training for network in state.networks.values())
    assert list(first) == [
        "health/diversity", "health/fake_logits", "health/training_logits",
        "health/held_out_logits", "health/logit_gap", "health/sign_rate",
    ]  # fmt: skip
    assert 0 <= first["health/sign_rate"] <= 1


def test_diversity_is_one_for_the_real_images_and_zero_for_one_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, probe = probe_of()
    samples = state.autoencoder.sample(tiny.rows().stored)
    indices, _ = diversity_rows(tiny.rows().labels, 3)

    def paint(w: torch.Tensor) -> torch.Tensor:
        some = samples[indices][torch.arange(len(w)) % len(indices)]
        return some[:, None].expand(-1, 4, -1, -1, -1)

    monkeypatch.setattr(state.generator, "synthesize", paint)
    assert probe(state)["health/diversity"] == pytest.approx(1)
    monkeypatch.setattr(
        state.generator, "synthesize", lambda w: paint(w[:1]).expand(len(w), -1, -1, -1, -1)
    )
    assert probe(state)["health/diversity"] == 0
    assert "health/held_out_logits" not in probe(state)


def test_spread_is_within_classes() -> None:
    samples = torch.tensor([0.0, 2.0, 10.0, 12.0])[:, None, None, None]
    assert spread(samples, torch.tensor([0, 0, 1, 1])) == pytest.approx(2**0.5)
    assert spread(samples, torch.tensor([0, 1, 2, 3])) == 0


def test_held_out_images_are_not_trained_on() -> None:
    rows = tiny.rows()
    rest, held_out = hold_out(rows, 6, seed=3)
    assert len(rest) == 18 and len(held_out.labels) == 6
    both = torch.cat([rest.read(torch.arange(18)).stored, held_out.stored]).flatten(1)
    assert len(both.unique(dim=0)) == len(rows) == len(both)
    again, other = hold_out(rows, 6, seed=3)[1], hold_out(rows, 6, seed=4)[1]
    assert torch.equal(held_out.stored, again.stored)
    assert not torch.equal(held_out.stored, other.stored)
    with pytest.raises(ConfigError, match=r"^`data.held_out` is 24 of 24 images$"):
        hold_out(rows, 24, seed=0)


def test_a_mirror_image_is_held_out_with_its_image() -> None:
    mirrored = Rows(torch.arange(8)[:, None].to(torch.uint8), torch.arange(8) // 2, None, copies=2)
    rest, held_out = hold_out(mirrored, 1, seed=0)
    (image,) = held_out.labels.tolist()
    assert len(rest) == 6 and image not in rest.labels.tolist()
    assert sorted(rest.read(torch.arange(6)).stored.flatten().tolist()) == [
        row for row in range(8) if row // 2 != image
    ]


def test_without_held_out_images_nothing_is_said_of_overfitting() -> None:
    line = {name: value for name, value in GOOD.items() if name != "health/held_out_logits"}
    health = Health([line] * 40)
    assert replace(health.rules[1]).band.typical() is None
