import json
from pathlib import Path

<<<<<<< HEAD
from scalegan.runtime.log import Log, read_metrics
=======
from scalegan.runtime.log import Log, curve_panels, plot_curves, read_metrics
>>>>>>> metrics


def test_record_and_read(tmp_path: Path) -> None:
    log = Log(tmp_path, is_first=True, resumed_step=0)
    log.record(1, 64, {"d/adversarial": 0.5})
    log.record(2, 128, {"d/adversarial": 0.25})
    assert read_metrics(tmp_path) == [
        {"step": 1, "images_seen": 64, "d/adversarial": 0.5},
        {"step": 2, "images_seen": 128, "d/adversarial": 0.25},
    ]


def test_no_metrics_yet(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    whole = json.dumps({"step": 1}) + "\n"
    for cut in range(1, 10):
        (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 2'[:cut])
        assert read_metrics(tmp_path) == [{"step": 1}]


def test_resuming_drops_lines_that_will_be_made_again(tmp_path: Path) -> None:
    log = Log(tmp_path, is_first=True, resumed_step=0)
    for step in range(1, 6):
        log.record(step, step, {})
    with log.metrics.open("a") as file:
        file.write('{"step": 6, "ima')
    log = Log(tmp_path, is_first=True, resumed_step=3)
    log.record(4, 4, {"again": True})
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert read_metrics(tmp_path)[-1]["again"]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "run", is_first=False, resumed_step=0)
    log.record(1, 1, {})
    log.say("hello")
    assert not (tmp_path / "run").exists()


def test_say_keeps_the_line_as_it_is(tmp_path: Path) -> None:
    Log(tmp_path, is_first=True, resumed_step=0).say("[red]grüße[/red]")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith("  [red]grüße[/red]\n")
<<<<<<< HEAD
=======


def test_curves_of_no_one_and_several_lines(tmp_path: Path) -> None:
    log = Log(tmp_path, is_first=True, resumed_step=0)
    values = {"d/adversarial": 0.7, "d/r1": 0.1, "d/r2": 0.2, "d/grad_norm": 1.0}
    for step in range(2):
        plot_curves(tmp_path)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        log.record(step, step, values)


def test_a_panel_has_numbers_of_one_kind_whatever_their_names() -> None:
    kinds = {"evaluate/fd": "distance", "evaluate/fidelity": "share", "evaluate/is": "score"}
    panels = curve_panels([{"d/r1": 1.0}, {**dict.fromkeys(kinds, 1.0), "kinds": kinds}])
    assert panels["distances"] == ["evaluate/fd"]
    assert panels["shares"] == ["evaluate/fidelity"]
    assert panels["scores"] == ["evaluate/is"]
    assert "scores" not in curve_panels([{"evaluate/fd": 1.0, "kinds": kinds}])
>>>>>>> metrics
