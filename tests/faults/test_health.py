"""Forced collapses sound an alarm, healthy runs none: the runs of benchmarks/health_alarms.py."""

import pytest
from benchmarks import health_alarms

from scalegan.train import health

RUNS = range(200, 220)  # seeds that no limit was set on


def test_what_forces_a_collapse_draws_images_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_alarms, "STEPS", 20)
    monkeypatch.setattr(health_alarms, "FORCED_FROM", 4)
    left_alone = health_alarms.run(0)["diversity"]
    for force in (health_alarms.to_one_image, health_alarms.to_one_image_per_class):
        diversity = health_alarms.run(0, force)["diversity"]
        assert diversity[0] == left_alone[0] and diversity[-1] < 0.7 * left_alone[-1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_collapses_are_noticed_and_healthy_runs_left_alone() -> None:
    hits = false = 0
    for i, seed in enumerate(RUNS):
        force = (health_alarms.to_one_image, health_alarms.to_one_image_per_class)[i % 2]
        alarms = health_alarms.run(seed, force)["alarms"]
        hits += any(n == "collapse" and at > health_alarms.FORCED_FROM for at, n in alarms)
        false += bool(health_alarms.run(seed)["alarms"])
    assert hits >= 19 and false <= 1, (hits, false)


@pytest.mark.slow
def test_control_without_a_band_a_collapse_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WARM_UP", 10**9)  # no value is ever typical
    assert health_alarms.run(200, health_alarms.to_one_image)["alarms"] == []
