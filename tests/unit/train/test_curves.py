from pathlib import Path

import pytest

from scalegan.evaluation.evaluate import write_result
from scalegan.evaluation.measure import Number
from scalegan.runtime.log import Log
from scalegan.train.curves import curve_panels, metric_kinds, plot_curves


def number(metric: str, name: str) -> Number:
    return Number(metric, name, name, 1.0, {}, None, 8, 8, {}, "0123456789ab")


def test_curves_of_no_one_and_several_lines(tmp_path: Path) -> None:
    log = Log(tmp_path, is_first=True, resumed_step=0)
    values = {"d/adversarial": 0.7, "d/r1": 0.1, "d/r2": 0.2, "d/grad_norm": 1.0}
    for step in range(2):
        plot_curves(tmp_path)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        log.record(step, step, values)


def test_metrics_of_one_kind_share_a_plot(tmp_path: Path) -> None:
    names = {"fd": "fid", "kd (inception)": "kid", "precision": "pr", "is": "is", "new": "unknown"}
    write_result(tmp_path / "evaluation.json", [number(m, name) for name, m in names.items()])
    lines = [{"step": 1, "images_seen": 8, **{f"evaluate/{name}": 1.0 for name in names}}]
    panels = curve_panels(lines, metric_kinds(tmp_path))
    assert panels["distances"] == ["evaluate/fd", "evaluate/kd (inception)"]
    assert (panels["shares"], panels["scores"]) == (["evaluate/precision"], ["evaluate/is"])
    assert panels["other metrics"] == ["evaluate/new"]


@pytest.mark.parametrize("text", [None, "", "[]", '{"numbers": 3}'])
def test_a_run_without_a_readable_evaluation_has_no_kinds(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    assert metric_kinds(tmp_path) == {}
