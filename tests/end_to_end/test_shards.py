"""From pictures to shards to a trained network to images, through the real command line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import scalegan as package
from scalegan.data.shards import Shards
from tests.runs import TINY, hashes, scalegan

SHARED = Path(__file__).parents[2].parent / "shared"
CIFAR = SHARED / "data" / "cifar10" / "test.parquet"
TAEF2 = SHARED / "weights" / "taef2"
EVERY = ["--every.checkpoint", "10 steps", "--every.samples", "1000 steps"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "digits"
    scalegan("prepare", "digits", str(out), "--shard-rows", "500", "--workers", "1")
    return out


def arguments(shards: Path, run: Path, steps: int, *more: str) -> list[str]:
    data = ["--data.shards", str(shards), "--run", str(run)]
    return ["train", "digits", *data, *TINY, *EVERY, "--train.duration", f"{steps} steps", *more]


def test_shards_train_as_their_source_does(shards: Path, tmp_path: Path) -> None:
    weights = Path("snapshots", "step-00000006", "generator.safetensors")
    scalegan(*arguments(shards, tmp_path / "shards", 6))
    scalegan("train", "digits", "--run", str(tmp_path / "memory"), *TINY, *EVERY,
             "--train.duration", "6 steps")  # fmt: skip
    assert (tmp_path / "shards" / weights).read_bytes() == (
        tmp_path / "memory" / weights
    ).read_bytes()


def test_killed_training_goes_on_to_the_same_bits(shards: Path, tmp_path: Path) -> None:
    # 1,797 rows of which 384 make a step: epochs end within the run, before and after the kill.
    wide = ["--train.batch-size", "384"]
    scalegan(*arguments(shards, tmp_path / "straight", 30, *wide, "--train.workers", "0"))
    command = [sys.executable, "-m", "scalegan", *arguments(shards, tmp_path / "run", 30, *wide)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "step-00000010").is_dir():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = scalegan(*arguments(shards, tmp_path / "run", 30, *wide, "--train.workers", "3"))
    assert "resuming" in done.stdout
    path = Path("checkpoints", "step-00000030")
    for name in hashes(tmp_path / "run", 30):
        if name != "state.json":  # it holds the number of workers, which is no part of the run
            found, expected = (tmp_path / run / path / name for run in ("run", "straight"))
            assert found.read_bytes() == expected.read_bytes(), name


def test_the_data_of_a_checkpoint_is_the_data_it_goes_on_with(shards: Path, tmp_path: Path) -> None:
    scalegan(*arguments(shards, tmp_path / "run", 2))
    moved = tmp_path / "moved"
    moved.symlink_to(shards)
    scalegan(*arguments(moved, tmp_path / "run", 3))  # the same bytes elsewhere
    other = tmp_path / "other"
    scalegan("prepare", "digits", str(other), "--shard-rows", "600", "--workers", "1")
    done = scalegan(*arguments(other, tmp_path / "run", 4), check=False)
    assert done.returncode == 2
    assert "was made on other data than `data.shards` holds now" in done.stderr


def test_damaged_shards_are_refused_in_a_sentence(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(["cp", "-r", str(shards), str(out)], check=True)
    path = out / "shard-00002" / "stored.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    done = scalegan(*arguments(out, tmp_path / "run", 2), check=False)
    assert (done.returncode, done.stderr.splitlines()) == (2, [
        f"error: `stored.npy` of shard `shard-00002` in `{out}` does not match its digest",
        "hint: run the same `scalegan prepare` again: sound shards are kept, others are made anew",
    ])  # fmt: skip
    scalegan("prepare", "digits", str(out), "--shard-rows", "500", "--workers", "1")
    scalegan(*arguments(out, tmp_path / "run", 2))


def test_another_autoencoder_is_refused(shards: Path, tmp_path: Path) -> None:
    more = ["--autoencoder.kind", "kl", "--autoencoder.path", "somewhere"]
    done = scalegan(*arguments(shards, tmp_path / "run", 2, *more), check=False)
    assert done.returncode == 2
    assert "were made by autoencoder `identity`, but `autoencoder.kind` is `kl`" in done.stderr


def test_shards_and_a_source_exclude_each_other(shards: Path, tmp_path: Path) -> None:
    more = ["--data.source", "npz:pictures.npz"]
    done = scalegan(*arguments(shards, tmp_path / "run", 2, *more), check=False)
    assert "error: `data.source` and `data.shards` are both set" in done.stderr


def test_two_processes_train_on_shards(shards: Path, tmp_path: Path) -> None:
    command = ["--nproc-per-node", "2", "--master-port", "29733", "-m", "--", "scalegan"]
    command += arguments(shards, tmp_path / "run", 4)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert package.load(tmp_path / "run").card.images_seen == 64


@pytest.mark.skipif(not CIFAR.is_file(), reason=f"needs {CIFAR}")
def test_cifar_from_parquet_to_images(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(CIFAR).slice(0, 300), tmp_path / "part.parquet")
    out, run = tmp_path / "shards", tmp_path / "run"
    scalegan("prepare", str(tmp_path / "part.parquet"), str(out), "--shard-rows", "200",
             "--mirror", "--keep-images", "--workers", "1")  # fmt: skip
    assert (len(Shards(out)), Shards(out).shape) == (600, (3, 32, 32))
    scalegan(*arguments(out, run, 3, "--model.patch-size", "8", "--every.samples", "3 steps"))
    gan = package.load(run)
    assert gan.card.shape == (3, 32, 32) and "frog" in gan.card.class_names
    scalegan("sample", str(run), "--classes", "frog", "--seeds", "0-3",
             "--out", str(tmp_path / "frogs.npz"))  # fmt: skip
    assert np.load(tmp_path / "frogs.npz")["arr_0"].shape == (4, 32, 32, 3)


@pytest.mark.skipif(not (CIFAR.is_file() and TAEF2.is_dir()), reason=f"needs {CIFAR} and {TAEF2}")
def test_cifar_in_latents(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(CIFAR).slice(0, 120), tmp_path / "part.parquet")
    out, run = tmp_path / "shards", tmp_path / "run"
    scalegan("prepare", str(tmp_path / "part.parquet"), str(out), "--autoencoder", str(TAEF2),
             "--workers", "1")  # fmt: skip
    found = Shards(out)
    assert (found.shape, found.dtype) == ((32, 4, 4), "float16")
    latent = ["--autoencoder.kind", "taef2", "--autoencoder.path", str(TAEF2)]
    scalegan(*arguments(out, run, 3, *latent, "--model.patch-size", "2"))
    assert package.load(run).sample(2).shape == (2, 3, 32, 32)
