"""From images to images through the real command line, on a tiny network."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scalegan as package
from tests.support.fork_server import free_port
from tests.support.runs import TINY, scalegan, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    every = ["--every.samples", "3 steps", "--every.checkpoint", "4 steps"]
    train(run, 6, *every, with_curves=True)
    return run


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_run_leaves_everything_behind(run: Path) -> None:
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000006",
    ]
    assert (run / "snapshots" / "step-00000006" / "README.md").is_file()
    assert sorted(path.name for path in (run / "samples").iterdir()) == [
        "step-00000003.png",
        "step-00000006.png",
    ]
    assert pixels(run / "curves.png").shape[1] > 1000
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"d/adversarial", "g/adversarial", "d/r1", "d/grad_norm"} <= lines[-1].keys()
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["model"]["width"] == 16 and config["model"]["size"] == ""
    assert len(json.loads((run / "environment.json").read_text())) == 1


def test_the_saved_config_repeats_the_run(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    scalegan("train", str(run / "config.toml"), "--run", str(again))
    weights = Path("snapshots", "step-00000006", "generator.safetensors")
    assert (again / weights).read_bytes() == (run / weights).read_bytes()


def test_sample_writes_what_the_name_asks_for(run: Path, tmp_path: Path) -> None:
    options = ["--classes", "3,7", "--seeds", "0-4"]
    scalegan("sample", str(run), *options, "--out", str(tmp_path / "grid.png"))
    scalegan("sample", str(run), *options, "--out", str(tmp_path / "images.npz"))
    scalegan("sample", str(run), *options, "--out", str(tmp_path / "folder"))
    assert pixels(tmp_path / "grid.png").shape == (3 * 49 - 1, 2 * 49 - 1, 3)
    archive = np.load(tmp_path / "images.npz")
    assert archive["arr_0"].shape == (5, 8, 8, 3) and archive["arr_0"].dtype == np.uint8
    assert archive["arr_1"].tolist() == [3, 7, 3, 7, 3]
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [f"00000{i}-{label}.png" for i, label in enumerate([3, 7, 3, 7, 3])]
    folder = np.stack([pixels(tmp_path / "folder" / name) for name in names])
    assert np.array_equal(folder, archive["arr_0"])


def test_seeds_decide_images_whatever_else_is_asked_for(run: Path, tmp_path: Path) -> None:
    scalegan("sample", str(run), "--seeds", "7,2", "--out", str(tmp_path / "few.npz"))
    scalegan("sample", str(run), "--seeds", "0-9", "--out", str(tmp_path / "many.npz"))
    few, many = (np.load(tmp_path / name)["arr_0"] for name in ("few.npz", "many.npz"))
    assert np.array_equal(few, many[[7, 2]])


def test_three_lines_of_python(run: Path) -> None:
    gan = package.load(run)
    images = gan.sample(16, classes=[3, 7], truncation=0.7, seed=0)
    assert images.shape == (16, 3, 8, 8) and images.dtype == torch.uint8
    assert gan.levels(2).shape == (4, 2, 3, 8, 8)
    assert gan.interpolate((0, 1), ("3", "7"), steps=5).shape == (5, 3, 8, 8)


def test_info_tells_size_cost_and_state(run: Path) -> None:
    text = scalegan("info", str(run)).stdout
    for expected in ("6 steps", "GFLOP per image", "10: 0, 1, 2", "checkpoint", "last numbers"):
        assert expected in text


def test_start_from_a_snapshot_takes_weights_only(run: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "tuned", 2, "--init-from", str(run), "--optim.learning-rate", "1e-9")
    assert "step, optimizers and average are new" in done.stdout
    gan, tuned = package.load(run), package.load(tmp_path / "tuned")
    assert tuned.card.step == 2
    # At a rate of next to nothing the new run's average stays at the old one's weights.
    for name, value in gan.generator.state_dict().items():
        if name not in ("style_mean", "style_updates"):
            assert torch.allclose(value, tuned.generator.state_dict()[name], atol=1e-6), name


@pytest.mark.parametrize(("channels", "side", "patch"), [(1, 12, 4), (3, 16, 8), (3, 6, 2)])
def test_other_sizes_and_channels(tmp_path: Path, channels: int, side: int, patch: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, side, side, channels), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images, np.arange(40) % 3)
    train(
        *(tmp_path / "run", 2, "--data.source", f"npz:{tmp_path / 'data.npz'}"),
        *("--model.patch-size", str(patch)),
    )
    gan = package.load(tmp_path / "run")
    assert gan.card.shape == (channels, side, side)
    images = gan.sample(3)
    assert images.shape == (3, 3, side, side)
    assert channels == 3 or (images == images[:, :1]).all()


def test_samples_can_be_trained_on(run: Path, tmp_path: Path) -> None:
    scalegan("sample", str(run), "--seeds", "0-39", "--out", str(tmp_path / "fake.npz"))
    train(tmp_path / "run", 2, "--data.source", f"npz:{tmp_path / 'fake.npz'}")


def test_two_processes_train_together(tmp_path: Path) -> None:
    # Without `--`, torchrun takes --run for a short form of one of its own options.
    arguments = ["--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "--", "scalegan"]
    arguments += ["train", "digits", "--run", str(tmp_path), *TINY, "--train.duration", "4 steps"]
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert package.load(tmp_path).card.images_seen == 64


def test_dry_run_shows_the_resolved_config_and_writes_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    text = scalegan("train", "digits", "--dry-run", "--model.size", "B", "--run", str(run)).stdout
    assert tomllib.loads(text)["model"]["width"] == 768
    assert not run.exists()
