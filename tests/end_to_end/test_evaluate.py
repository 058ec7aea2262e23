"""Evaluation through the command line, alone and by two processes; it changes no training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalegan.cli import main
from tests.support.runs import hashes, scalegan, train

MEASURED = ["--evaluate.num-images", "40", "--every.evaluate", "2 steps", "--every.checkpoint",
            "2 steps"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated on the way, and a classifier."""
    folder = tmp_path_factory.mktemp("evaluate")
    train(folder / "run", 4, *MEASURED)
    scalegan("classifier", "train", "digits", str(folder / "classifier"), "--images-seen", "2000")
    return folder


def command(*arguments: str, capsys: Any = None) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0
    return str(capsys.readouterr().out) if capsys else ""


def values(path: Path) -> dict[str, float]:
    return {n["name"]: n["value"] for n in json.loads(path.read_text())["numbers"]}


def test_training_is_the_same_without(place: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", 4)
    measured, plain = hashes(place / "run", 4), hashes(tmp_path / "run", 4)
    assert {k: v for k, v in measured.items() if k != "state.json"} == {
        k: v for k, v in plain.items() if k != "state.json"
    }
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "evaluate/fd" in line]
    assert steps == [2, 4]
    assert (place / "run" / "snapshots" / "best" / "config.json").is_file()


def test_a_resumed_run_is_judged_by_the_same_judge(place: Path, tmp_path: Path) -> None:
    train(tmp_path / "a", 2, *MEASURED)
    classifier = (tmp_path / "a" / "classifier" / "classifier.safetensors").read_bytes()
    train(tmp_path / "a", 4, *MEASURED)
    assert (tmp_path / "a" / "classifier" / "classifier.safetensors").read_bytes() == classifier
    straight, resumed = (values(run / "evaluation.json") for run in (place / "run", tmp_path / "a"))
    assert resumed == straight


def test_two_processes_give_the_numbers_of_one(place: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(place / "run"), "--num", "41", "--batch-size", "8", "--device",
                 "cpu", "--floor", "--metrics", "fid,prdc,kid,is,accuracy,copies"]  # fmt: skip
    results = []
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.json"
        launch = [
            "-m",
            "torch.distributed.run",
            "--master-port",
            "29747",
            "--nproc-per-node",
            str(ranks),
        ]
        subprocess.run(
            [sys.executable, *launch, "-m", "--", "scalegan", *arguments, "--out", str(out)],
            check=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
        )  # fmt: skip
        results.append(json.loads(out.read_text())["numbers"])
    for one, two in zip(*results, strict=True):
        assert one["fingerprint"] == two["fingerprint"] and one["title"] == two["title"]
        assert one["value"] == pytest.approx(two["value"], rel=1e-5, abs=1e-6), one["name"]
        assert one["floor"] == pytest.approx(two["floor"], rel=1e-5, abs=1e-6), one["name"]


def test_two_processes_train_with_evaluation(tmp_path: Path) -> None:
    arguments = ["--master-port", "29749", "--nproc-per-node", "2", "-m", "--", "scalegan", "train",
                 "digits", "--run", str(tmp_path / "run"), "--train.duration", "2 steps",
                 "--model.width", "16", "--model.num-heads", "2", "--train.batch-size", "16",
                 "--evaluate.num-images", "21", "--every.evaluate", "1 step"]  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        check=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    saved = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [number["num_fake"] for number in saved["numbers"]] == [21] * 6
    assert [number["num_real"] for number in saved["numbers"]][:5] == [1797] * 5


def test_the_way_from_samples_to_a_comparison(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = f"classifier:{place / 'classifier'}"
    command("statistics", "digits", "r.npz", "--features", classifier, "--bank", "--device", "cpu")
    run, common = str(place / "run"), ["--features", classifier, "--num", "30", "--device", "cpu"]
    text = command("evaluate", run, "--against", "digits", *common, "--out", "a.json", "--keep",
                   "kept.npz", capsys=capsys)  # fmt: skip
    assert "FD (classifier " in text and "FID" not in text
    command("evaluate", "kept.npz", "--against", "r.npz", *common, "--out", "b.json")
    command("evaluate", run, "--against", "r.npz", *common, "--out", "c.json", "--keep", "kept")
    assert values(Path("a.json")) == values(Path("b.json")) == values(Path("c.json"))
    assert len(list(Path("kept").glob("*.png"))) == 30
    with np.load("kept.npz") as archive:
        assert archive["arr_0"].shape == (30, 8, 8, 3)
    text = command("diff", "a.json", "c.json", capsys=capsys)
    assert "difference" in text
    command("evaluate", run, "--against", "digits", *common[:2], "--num", "31", "--out", "d.json")
    done = scalegan("diff", "a.json", "d.json", check=False)
    assert done.returncode == 2
    assert "its `num_fake` is 30 in the first and 31 in the second" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--metrics", "fud"], "there is no metric `fud`"),
        (["digits", "--against", "digits", "--features", "classifier"], "does not say which"),
        (
            ["digits", "--features", "classifier:{classifier}"],
            "does not say what it was trained on",
        ),
        (["{run}", "--against", "nowhere"], "neither a file nor a folder"),
        (["{run}", "--num", "-1"], "expected 0 or more"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], message: str, place: Path) -> None:
    filled = [a.format(run=place / "run", classifier=place / "classifier") for a in arguments]
    done = scalegan("evaluate", *filled, check=False)
    assert done.returncode == 2 and message in done.stderr


def test_a_result_that_is_not_there_is_a_sentence() -> None:
    done = scalegan("diff", "nowhere.json", "x.json", check=False)
    assert done.returncode == 2 and "there is no result" in done.stderr
