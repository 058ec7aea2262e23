import json
from pathlib import Path

from scalegan.runtime.log import Log, read_metrics


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
