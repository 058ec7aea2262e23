from pathlib import Path

import pytest

from scalegan.evaluation.results import write_result
from scalegan.runtime.log import Log
from scalegan.train.curves import curve_panels, metric_kinds, plot_curves
from tests.support.numbers import number


def test_curves_of_no_one_and_several_lines(tmp_path: Path) -> None:
    log = Log(tmp_path, is_first=True, resumed_step=0)
    values = {"d/adversarial": 0.7, "d/r1": 0.1, "d/r2": 0.2, "d/grad_norm": 1.0}
    for step in range(2):
        plot_curves(tmp_path)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        log.record(step, step, values)


def test_metrics_of_one_kind_share_a_plot(tmp_path: Path) -> None:
    numbers = [number("kd (inception)", "distance"), number("precision", "share")]
    numbers += [number("fd", "distance"), number("is", "score")]
    write_result(tmp_path / "evaluation.json", numbers)
    names = ["evaluate/older", *(f"evaluate/{n.name}" for n in numbers)]
    lines = [{"step": 1, "images_seen": 8, **dict.fromkeys(names, 1.0)}]
    panels = curve_panels(lines, metric_kinds(tmp_path))
    assert list(panels.items())[4:] == [
        ("distances", ["evaluate/fd", "evaluate/kd (inception)"]),
        ("shares", ["evaluate/precision"]),
        ("scores", ["evaluate/is"]),
        ("other metrics", ["evaluate/older"]),
    ]


@pytest.mark.parametrize("text", [None, "", "[]", '{"numbers": 3}'])
def test_a_run_without_a_readable_evaluation_has_no_kinds(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    assert metric_kinds(tmp_path) == {}
