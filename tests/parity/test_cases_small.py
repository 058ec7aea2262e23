"""The vectors that every clone has: all systems are there, they agree, and would notice a sign."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalegan.layers import attention
from scalegan.layers.attention import AdditiveAttention
from scalegan.layers.batch_norm import BatchNorm
from scalegan.layers.bipartite import BipartiteAttention
from tests.conftest import SMALL_PARITY

from . import metrics, test_parity
from .cases import read
from .compare import Tolerance, faults, judge_all

FILES = sorted(SMALL_PARITY.glob("*/*.safetensors"))


def faults_of(path: Path) -> dict[str, str]:
    case = read(path)
    ours = test_parity.SYSTEMS[path.parent.name].handler(case)(case)
    tolerance = Tolerance(case.tolerance, case.config.get("lr_generator", 0.0))
    return faults(judge_all(ours, case.outputs, tolerance))


def test_every_system_has_a_case_and_all_are_small() -> None:
    systems = {path.parent.name for path in SMALL_PARITY.glob("*/*.json")}
    assert systems == {*test_parity.SYSTEMS, "metrics"}
    assert sum(path.stat().st_size for path in SMALL_PARITY.rglob("*")) < 5_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_our_outputs_are_the_recorded_ones(path: Path) -> None:
    assert faults_of(path) == {}


@pytest.mark.parametrize("path", metrics.paths(SMALL_PARITY), ids=lambda path: path.stem)
def test_our_scores_are_the_recorded_ones(path: Path) -> None:
    case = metrics.read(path)
    ours = metrics.computed(case)
    assert not any(v.fault(ours.get(name)) for name, v in metrics.expected(case).items())


Change = Callable[[Any], Callable[..., Any]]
# A function of each system, and the same with one sign changed.
SIGNS: dict[str, tuple[Any, str, Change]] = {
    "gat/loss_plain": (
        attention,
        "rotate",
        lambda rotate: lambda x, rotary: rotate(x, rotary * rotary.new_tensor([1, -1])),
    ),
    "ladagan/losses": (
        AdditiveAttention,
        "weigh",
        lambda weigh: lambda self, q: weigh(self, -q),
    ),
    "biggan/training_step": (
        BatchNorm,
        "normalize",
        lambda normalize: lambda self, x, gain, bias: normalize(self, x, gain, -bias),
    ),
    "gansformer/generator_duplex_style_off_16": (
        BipartiteAttention,
        "integrate",
        lambda integrate: lambda self, x, context: integrate(self, x, -context),
    ),
}


@pytest.mark.parametrize("name", SIGNS)
def test_a_changed_sign_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SMALL_PARITY / f"{name}.safetensors"
    owner, attribute, change = SIGNS[name]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert faults_of(path)


def test_a_changed_sign_of_a_metric_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = metrics.read(SMALL_PARITY / "metrics" / "fewer_than_dim.json")
    distance, of_features = metrics.frechet_distance, metrics.frechet_distance_of_features
    monkeypatch.setattr(metrics, "frechet_distance", lambda *sides: -distance(*sides))
    monkeypatch.setattr(
        metrics, "frechet_distance_of_features", lambda *sides: -of_features(*sides)
    )
    ours, expected = metrics.computed(case), metrics.expected(case)
    assert expected["fd"].fault(ours["fd"])
