"""`scalegan study` through the real command line: killed and resumed it has the same numbers."""

import signal
from pathlib import Path
from typing import Any

import pytest

from scalegan.config.budget import parse_budget
from scalegan.config.schema import Config
from scalegan.errors import ConfigError, TrainingError
from scalegan.reports import compare
from scalegan.runtime.files import read_json
from scalegan.studies.study import Request, run_study
from scalegan.studies.tables import STUDIES
from scalegan.train import loop
from scalegan.train.loop import Outcome, train
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


def test_a_run_that_diverges_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(config: Config, run: Path, device: str) -> Outcome:
        if "one-rate" in run.name:
            raise TrainingError("3 steps in a row had values that are not finite")
        return train(config, run, device)

    monkeypatch.setattr(compare, "TRIAL_SECONDS", 0.01)
    monkeypatch.setattr(compare, "train", diverges)
    monkeypatch.setattr(loop, "plot_curves", lambda run: None)
    data = systems.save_images(tmp_path / "small.npz", count=32)
    settings = {
        "data.source": data.source, "model.width": 16, "model.depth": 2, "model.num_levels": 2,
        "train.batch_size": 8, "evaluate.num_images": 8, "evaluate.metrics": "fid",
    }  # fmt: skip
    asked = Request("digits", settings, ("32",))
    work = (asked, parse_budget("2 steps"), [0], tmp_path / "out", 1, "cpu")
    assert run_study("rates", STUDIES["rates"], *work) is None
    found = read_json(tmp_path / "out" / "study.json")
    status = {run["run"]: (run["status"], run["reason"]) for run in found["runs"]}
    reason = "3 steps in a row had values that are not finite"
    assert status["width-32-one-rate-seed-0"] == ("failed", reason)
    assert [s for s, _ in status.values()].count("finished") == 2
    assert found["findings"]["failed"] == ["width-32-one-rate-seed-0"]
    page = (tmp_path / "out" / "study.html").read_text()
    assert f"width-32-one-rate-seed-0 did not stay stable: {reason}" in page
    with pytest.raises(ConfigError, match="whose study is 'rates', not 'sizes'"):
        run_study("sizes", STUDIES["sizes"], *work)


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
