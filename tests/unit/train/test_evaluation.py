"""Measuring while training: which snapshot is best, what is given up, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scalegan.config.schema import EvaluateConfig
from scalegan.data.memory import LabeledImages
from scalegan.errors import ConfigError
from scalegan.evaluation.results import write_result
from scalegan.runtime.log import Log, read_metrics
from scalegan.train.build import Built
from scalegan.train.checkpoint import state_tensors
from scalegan.train.curves import metric_kinds
from scalegan.train.evaluation import Evaluator, choose_best
from tests.support import tiny
from tests.support.numbers import number


def evaluator(run: Path, num_classes: int = 3, **settings: Any) -> Evaluator:
    config = tiny.config(evaluate=EvaluateConfig(num_images=20, **settings))
    rows = tiny.rows(60)
    labels = rows.labels % num_classes
    images = LabeledImages(rows.stored.expand(-1, 3, -1, -1), labels, ["a", "b", "c"], True)
    return Evaluator(Built(tiny.state(config), rows, images), run, Log(run, True, 0))


def test_it_measures_records_and_keeps_its_classifier(tmp_path: Path) -> None:
    found = evaluator(tmp_path)
    before = {name: value.clone() for name, value in state_tensors(found.built.state).items()}
    random_state = torch.get_rng_state()
    numbers = found.evaluate(with_floor=True)
    found.record(numbers)
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in state_tensors(found.built.state).items():
        assert torch.equal(value, before[name]), name
    names = [number.name for number in numbers]
    assert names == ["fd", "precision", "recall", "density", "coverage", "accuracy"]
    assert all(number.floor is not None for number in numbers)
    assert [number.num_fake for number in numbers] == [20] * 6
    (line,) = read_metrics(tmp_path)
    assert line["evaluate/fd"] == numbers[0].value
    assert line["fingerprint"] == numbers[0].fingerprint
    kinds = metric_kinds(tmp_path)
    assert (kinds["evaluate/fd"], kinds["evaluate/recall"]) == ("distance", "share")
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["numbers"][0]["protocol"]["samples"]["seeds"] == [0, 19]
    again = evaluator(tmp_path).evaluate()
    assert [n.value for n in again] == [n.value for n in numbers], "by the same classifier"


def test_one_that_takes_too_long_is_given_up_with_a_notice(tmp_path: Path) -> None:
    found = evaluator(tmp_path, metrics="fid")
    assert found.evaluate(seconds=1e-9) == []
    assert "given up after 0 s at 0 of 20" in (tmp_path / "log.txt").read_text()
    found.record([])
    assert read_metrics(tmp_path) == []


def test_mistakes_are_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no metric `fud`"):
        evaluator(tmp_path, metrics="fid,fud")
    with pytest.raises(ConfigError, match="one class cannot train a classifier"):
        evaluator(tmp_path, num_classes=1)


def write(run: Path, *lines: dict[str, Any]) -> None:
    run.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text)
    for line in lines:
        (run / "snapshots" / f"step-{line['step']:08d}").mkdir(parents=True, exist_ok=True)


def test_the_best_is_the_nearest_and_follows_from_the_folder_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_result(run / "evaluation.json", [number("accuracy", "share"), number("fd", "distance")])
    entries = [
        {"step": step, "evaluate/accuracy": 1 / step, "evaluate/fd": value, "fingerprint": "a"}
        for step, value in ((1, 5.0), (2, 3.0), (3, 4.0))
    ]
    write(run, *entries, {"step": 4})
    assert choose_best(run) == run / "snapshots" / "step-00000002"
    assert (run / "snapshots" / "best").resolve().name == "step-00000002"
    write(run, *entries[:1])  # resumed at step 1: later lines are gone
    assert choose_best(run) == run / "snapshots" / "step-00000001"
    write(run, *entries, {"step": 5, "evaluate/fd": 9.0, "fingerprint": "b"})
    assert choose_best(run) == run / "snapshots" / "step-00000005", "others are not comparable"
    write(run, {"step": 4})
    assert choose_best(run) is None and not (run / "snapshots" / "best").exists()
