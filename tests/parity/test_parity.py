"""Our code against recorded results of the reference implementations, file by file."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from . import biggan, gansformer, handlers, ladagan
from .cases import Case, read
from .compare import (
    Close,
    CloseNorm,
    Mostly,
    Outputs,
    Rule,
    Tolerance,
    faults,
    is_skipped,
    judge_all,
    verdict,
)

SYSTEMS = {"gat": handlers, "ladagan": ladagan, "biggan": biggan, "gansformer": gansformer}
"""By folder; each has `handler(case)`, which finds our code for a case."""
ELSEWHERE = ("metrics",)  # in test_metrics.py


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per file of the folder."""
    folder = metafunc.config.getoption("--parity-dir")
    # Files of what is not built are listed once, as skipped.
    systems = None if metafunc.function is test_parity else set(SYSTEMS)
    metafunc.parametrize("path", files_of(folder, systems))


def files_of(folder: Path, systems: set[str] | None) -> list[Any]:
    files = sorted(file for kind in ("safetensors", "npz") for file in folder.glob(f"*/*.{kind}"))
    params = []
    for file in files:
        system = file.parent.name
        if system in ELSEWHERE:
            continue
        if systems is None or system in systems:
            params.append(pytest.param(file, id=f"{system}/{file.stem}"))
    absent = pytest.mark.skip(reason=f"no reference vectors in `{folder}` (see --parity-dir)")
    return params or [pytest.param(folder, id="none", marks=absent)]


@cache
def computed(path: Path) -> tuple[Case, Outputs, Tolerance]:
    """A case, what our code makes of it, and how closely they must agree."""
    case = read(path)
    ours = SYSTEMS[path.parent.name].handler(case)(case)
    return case, ours, Tolerance(case.tolerance, case.config.get("lr_generator", 0.0))


def test_parity(path: Path) -> None:
    case, ours, tolerance = computed(path)
    assert case.outputs, f"`{path.name}` records no outputs"
    assert faults(judge_all(ours, case.outputs, tolerance)) == {}


def test_every_output_is_compared(path: Path) -> None:
    """Negative control: a file that is wrong in one tensor is reported for that tensor alone."""
    case, ours, tolerance = computed(path)
    verdicts = judge_all(ours, case.outputs, tolerance)
    assert set(verdicts) == {name for name in case.outputs if not is_skipped(name)}
    for name in verdicts:
        rule = tolerance.rule(name)
        wrong = disturbed(name, case.outputs[name], rule)
        assert set(faults(verdicts | {name: verdict(name, ours, wrong, rule)})) == {name}


def disturbed(name: str, value: Tensor, rule: Rule) -> Tensor:
    """A copy that is wrong in one element by little more than its rule must notice."""
    value = value.clone()
    element = value.view(-1)[value.numel() // 2 :][:1]
    match rule:
        case _ if value.dtype == torch.bool:
            element.logical_not_()
        case _ if not value.is_floating_point():
            element += 1
        case Close():
            scale = value.abs().max()
            element += 0.01 * scale + 1.01 * (rule.atol + rule.rtol * scale)
        case CloseNorm():
            norm = value.norm()
            element += 0.01 * norm + 1.01 * (rule.atol + rule.rtol * norm)
        case Mostly():
            element += 4 * rule.unit * rule.most * (1 + int(name.split(".")[0]))
    return value
