"""`scalegan study` through the real command line: killed and resumed it has the same numbers."""

import signal
from pathlib import Path
from typing import Any

import pytest

from scalegan.runtime.files import read_json
from tests.support import systems
from tests.support.fork_server import Child, fork_server

TINY = [
    *("--model.width", "16", "--model.depth", "4", "--model.num-heads", "2"),
    *("--model.label-width", "32", "--train.batch-size", "8", "--train.threads", "1"),
    *("--evaluate.num-images", "8", "--evaluate.metrics", "fid", "--every.log", "1 step"),
]


def start(name: str, data: Path, *more: str) -> Child:
    words = ["study", name, "digits", "--data.source", f"npz:{data}", *TINY, *more]
    words += ["--budget", "4 steps", "--points", "2", "--out", "out", "--device", "cpu"]
    (child,) = fork_server().start(words, faults=[["short_trials"]])
    return child


def numbers(out: Path) -> dict[str, Any]:
    """All numbers of a study but those of the clock."""
    found: dict[str, Any] = read_json(out / "study.json")
    assert found.pop("timing")["runs"].keys() == {run["run"] for run in found["runs"]}
    return found


@pytest.mark.parametrize(
    ("name", "more", "moments"),
    [
        ("levels", [], ["runs/one-level-seed-0/metrics.jsonl"]),
        (
            "rates",
            ["--values", "32"],
            ["classifier/classifier.json", "runs/width-32-rule-seed-0/outcome.json"],
        ),
    ],
)
def test_a_killed_study_goes_on_to_the_same_numbers(
    name: str,
    more: list[str],
    moments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    systems.save_images(tmp_path / "small.npz", count=32)
    results = []
    for folder, kills in (("straight", []), ("killed", moments)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        for moment in kills:
            child = start(name, tmp_path / "small.npz", *more)
            assert child.until(Path("out", moment).is_file), child.text
            child.send(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        child = start(name, tmp_path / "small.npz", *more)
        assert child.wait() == 0, child.text
        results.append(numbers(Path("out")))
        page = Path("out/study.html").read_text()
        assert "<script" not in page and all(run["run"] in page for run in results[-1]["runs"])
    straight, killed = results
    assert straight == killed
    assert [run["status"] for run in straight["runs"]] == ["finished"] * len(straight["runs"])
    assert all(len(run["evaluations"]) == 2 for run in straight["runs"])
    check = {"levels": check_levels, "rates": check_rates}[name]
    check(straight["findings"])


def check_levels(findings: dict[str, Any]) -> None:
    runs = findings["runs"]
    assert len(runs) == 4 and len(runs["one-level-seed-0"]["level_rms"]) == 1
    for run in runs.values():
        assert len(run["skipped_pixels"]) == len(run["skipped_features"]) == 4
        assert max(run["skipped_pixels"]) > 0


def check_rates(findings: dict[str, Any]) -> None:
    assert [entry["width"] for entry in findings["probe"]] == [16, 32, 32]
    rule, one_rate = (entry["steps"][0]["samples"] for entry in findings["probe"][1:])
    assert one_rate == pytest.approx(2 * rule, rel=0.2), "one step moves by the rate"
