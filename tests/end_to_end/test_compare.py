"""`scalegan compare`: equal budgets, one classifier, nothing hidden, nothing repeated."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalegan.config.budget import Budget, parse_budget
from scalegan.config.schema import Config, EvaluateConfig
from scalegan.errors import CompleteError, ConfigError, TrainingError
from scalegan.reports import compare as command
from scalegan.reports.comparison_data import read_comparison
from scalegan.runtime.log import read_lines, read_metrics
from scalegan.train.evaluation import Evaluator
from scalegan.train.loop import Outcome, train
from tests.support import systems
from tests.support.browser import render


@pytest.fixture(autouse=True)
def short_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TRIAL_SECONDS", 0.01)


@pytest.fixture
def given(tmp_path: Path) -> list[Config]:
    data = systems.save_images(tmp_path / "small.npz", count=32)
    measured = EvaluateConfig(num_images=8, metrics="fid,accuracy")
    return [systems.config(name, data, evaluate=measured) for name in ("gat", "biggan")]


def test_runs_are_compared_once_and_a_failed_one_is_shown(
    given: list[Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(config: Config, run: Path, device: str) -> Outcome:
        if "biggan" in run.name:
            raise TrainingError("3 steps in a row had values | that are not finite")
        return train(config, run, device)

    monkeypatch.setattr(command, "train", fails)
    out = tmp_path / "out"
    work = (given, parse_budget("4 steps"), [0], out, 2, "cpu")
    assert command.compare(*work) is None
    good, bad = read_comparison(out).runs
    assert (good.status, good.step, [p.step for p in good.evaluations]) == ("finished", 4, [2, 4])
    assert good.final.keys() == {"fd", "accuracy"} and good.sample_seconds
    assert [point.images_seen for point in good.evaluations] == [16, 32]
    assert good.evaluations[1].operations == 2 * good.evaluations[0].operations > 0
    assert 0 < good.evaluations[0].seconds < good.evaluations[1].seconds == good.seconds
    assert (bad.status, bad.final) == ("failed", {})
    for name in ("README.md", "index.html"):
        text = (out / name).read_text()
        assert "failed: 3 steps in a row had values" in text and "digits-seed-0" in text
        assert ("0 of 1" in text) and "classifier" in text
    assert text.count('src="data:image/png;base64,') == text.count("src=") == 1
    files = re.findall(r"!\[[^]]*\]\(<([^>]+)>\)", (out / "README.md").read_text())
    assert len(files) == 2 * 3 + 1 and all((out / file).is_file() for file in files)
    assert "values \\| that" in (out / "README.md").read_text()
    assert "in all" in capsys.readouterr().out
    monkeypatch.setattr(command, "train", None)  # would fail if it were called
    assert command.compare(*work) is None
    with pytest.raises(ConfigError, match="whose budget is '4 steps', not '5 steps'"):
        command.compare(given, parse_budget("5 steps"), [0], out, 2, "cpu")
    changed = [replace(given[0], optim=replace(given[0].optim, learning_rate=1e-5)), given[1]]
    with pytest.raises(ConfigError, match="other settings of `digits`"):
        command.compare(changed, *work[1:])
    seen = render(out / "index.html", 390, tmp_path)
    assert seen["headings"][1:] == [
        "At the end (one seed)", "Along the way", "Samples", "Every run", "What it costs",
    ]  # fmt: skip
    assert len(seen["plots"]) == 6 and min(seen["plots"]) > 100 and min(seen["images"]) > 0
    assert seen["width"] == 390 and not seen["scripts"] and not seen["console"]


def test_a_stopped_comparison_goes_on(
    given: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(command, "train", lambda *_: Outcome(out, 1, stopped_by=15))
    work = (given[:1], parse_budget("1 PFLOP"), [0], out, 1, "cpu")
    assert command.compare(*work) == 15
    assert read_comparison(out).runs[0].status == "not begun"
    assert not list(out.glob("runs/*/outcome.json"))
    plan = json.loads((out / "comparison.json").read_text())["entries"][0]
    assert 0 <= 1e15 - plan["steps"] * plan["operations_per_step"] < plan["operations_per_step"]


def test_unlike_recipes_are_refused(given: list[Config]) -> None:
    other = replace(given[1], data=replace(given[1].data, source="digits"))
    with pytest.raises(ConfigError, match=r"^`data\.source` differs: "):
        command.check_comparable([given[0], other])
    with pytest.raises(ConfigError, match="the same name: digits, digits"):
        command.check_comparable([given[0], given[0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20 minutes", Budget("20 minutes", seconds=1200)),
        ("1.5 hours", Budget("1.5 hours", seconds=5400)),
        ("2 PFLOP", Budget("2 PFLOP", operations=2e15)),
        ("300 GFLOPs", Budget("300 GFLOPs", operations=3e11)),
        ("500k images", Budget("500k images")),
    ],
)
def test_budgets(text: str, expected: Budget) -> None:
    assert parse_budget(text) == expected
    assert expected.duration(10**9).split()[0].rstrip("k").replace(".", "").isdigit()


@pytest.mark.parametrize("text", ["", "2", "2 FLAP", "-1 PFLOP", "nan PFLOP", "0 minutes", "x s"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a positive number and a unit"):
        parse_budget(text)
    with pytest.raises(ConfigError, match="less than one step"):
        parse_budget("1 GFLOP").duration(2 * 10**9)


def test_a_run_ends_when_its_time_is_over_and_not_before(
    given: list[Config], tmp_path: Path
) -> None:
    config = replace(given[0], evaluate=EvaluateConfig(num_images=0))
    first = replace(config, train=replace(config.train, duration="0.2 seconds"))
    step = train(first, tmp_path / "run", "cpu").step
    shown = read_lines(tmp_path / "run" / "clock.jsonl")
    assert shown[-1]["step"] == step and shown[-1]["seconds"] >= 0.2
    assert all(line["seconds"] < 0.2 for line in shown[:-1])
    with pytest.raises(CompleteError):
        train(first, tmp_path / "run", "cpu")
    end = shown[-1]["seconds"] + 0.2  # a step of a busy machine may have taken long
    longer = replace(config, train=replace(config.train, duration=f"{end} seconds"))
    assert train(longer, tmp_path / "run", "cpu").step > step
    again = read_lines(tmp_path / "run" / "clock.jsonl")
    assert again[: len(shown)] == shown and again[-1]["seconds"] >= end
    assert sum(line["seconds"] < end for line in again) == len(again) - 1


def test_killed_while_it_is_evaluated_a_run_is_evaluated_later(
    given: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "evaluate", killed)
        train(given[1], run, "cpu")
    assert not any("fingerprint" in line for line in read_metrics(run))
    assert [n.name for n in train(given[1], run, "cpu").numbers] == ["fd", "accuracy"]
    assert [line["step"] for line in read_metrics(run) if "fingerprint" in line] == [4]
    with pytest.raises(CompleteError, match="is complete: step 4 of 4"):
        train(given[1], run, "cpu")
