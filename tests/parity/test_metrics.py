"""Metrics, resize filters and FID's network against recorded values."""

from functools import cache
from pathlib import Path

import pytest

from . import metrics
from .metrics import Expected, Values


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case of the folder."""
    folder = metafunc.config.getoption("--parity-dir")
    cases = [pytest.param(path, id=path.stem) for path in metrics.paths(folder)]
    absent = pytest.mark.skip(reason=f"no reference vectors in `{folder}` (see --parity-dir)")
    metafunc.parametrize("path", cases or [pytest.param(folder, id="none", marks=absent)])


@cache
def both(path: Path) -> tuple[Values, dict[str, Expected]]:
    case = metrics.read(path)
    return metrics.computed(case), metrics.expected(case)


def test_parity(path: Path) -> None:
    ours, recorded = both(path)
    assert recorded, f"`{path.name}` records no values"
    faults = {name: value.fault(ours.get(name)) for name, value in recorded.items()}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_every_value_is_compared(path: Path) -> None:
    """Negative control: a record that is wrong in one value, or lacks ours, is noticed."""
    ours, recorded = both(path)
    for name, value in recorded.items():
        assert value.disturbed().fault(ours[name]), f"a wrong `{name}` is not noticed"
        assert value.fault(None)
        assert value.fault(ours[name] * float("nan")), f"a `{name}` of NaN is not noticed"
