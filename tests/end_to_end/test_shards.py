"""From images to shards to a trained network to images, through the real command line."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import scalegan as package
from scalegan.cli import main
from scalegan.data.prepare import prepare
from scalegan.data.shards import Shards
from scalegan.runtime.files import read_json, write_json
from tests.support.fork_server import fork_server
from tests.support.runs import TINY, hashes, scalegan

EVERY = ["--every.checkpoint", "10 steps", "--every.samples", "1000 steps"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "digits"
    scalegan("prepare", "digits", str(out), "--shard-rows", "500", "--workers", "1")
    return out


def arguments(shards: Path, run: Path, steps: int, *more: str) -> list[str]:
    data = ["--data.shards", str(shards), "--run", str(run)]
    return ["train", "digits", *data, *TINY, *EVERY, "--train.duration", f"{steps} steps", *more]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What is printed about a mistake; in this process, because starting one takes seconds."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_shards_train_as_their_source_does(shards: Path, tmp_path: Path) -> None:
    weights = Path("snapshots", "step-00000006", "generator.safetensors")
    scalegan(*arguments(shards, tmp_path / "shards", 6))
    scalegan("train", "digits", "--run", str(tmp_path / "memory"), *TINY, *EVERY,
             "--train.duration", "6 steps")  # fmt: skip
    assert (tmp_path / "shards" / weights).read_bytes() == (
        tmp_path / "memory" / weights
    ).read_bytes()


def test_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", pixels, np.arange(70) % 3)
    out = tmp_path / "shards"
    options = ["--shard-rows", "30", "--workers", "1"]
    scalegan("prepare", f"npz:{tmp_path / 'data.npz'}", str(out), *options)
    # 70 rows of which 16 make a step: epochs end within the run, before and after the kill.
    scalegan(*arguments(out, tmp_path / "straight", 40, "--train.workers", "0"))
    (child,) = fork_server().start(arguments(out, tmp_path / "run", 40))
    assert child.until((tmp_path / "run" / "checkpoints" / "step-00000010").is_dir), child.text
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "checkpoints" / "step-00000040").exists()
    done = scalegan(*arguments(out, tmp_path / "run", 40, "--train.workers", "3"))
    assert "resuming" in done.stdout
    found, expected = hashes(tmp_path / "run", 40), hashes(tmp_path / "straight", 40)
    # The state holds the number of threads, which is no part of the run.
    assert found | {"state.json": ""} == expected | {"state.json": ""}


def test_a_checkpoint_goes_on_with_its_own_data(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    scalegan(*arguments(shards, run, 2))
    (tmp_path / "moved").symlink_to(shards)
    scalegan(*arguments(tmp_path / "moved", run, 3))  # the same bytes elsewhere
    prepare("digits", tmp_path / "other", shard_rows=600, workers=1)
    lines = refused(capsys, *arguments(tmp_path / "other", run, 4))
    assert "was made on other data than `data.shards` holds now" in lines[0]


def test_damaged_shards_are_refused_in_a_sentence(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    path = out / "shard-00002" / "stored.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    assert refused(capsys, *arguments(out, tmp_path / "run", 2)) == [
        f"error: `stored.npy` of shard `shard-00002` in `{out}` does not match its digest",
        "hint: run the same `scalegan prepare` again: sound shards are kept, others are made anew",
    ]
    prepare("digits", out, shard_rows=500, workers=1)
    Shards(out).verify()


def test_what_does_not_fit_the_shards_is_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, message in (
        (
            ["--autoencoder.kind", "kl", "--autoencoder.path", "somewhere"],
            f"the shards `{shards}` were made by autoencoder `identity`, but `autoencoder.kind` is "
            "`kl`",
        ),
        (
            ["--data.source", "npz:images.npz"],
            "`data.source` and `data.shards` are both set",
        ),
        (
            ["--data.size", "4"],
            "`data.size` is set but the images of `data.shards` have their size",
        ),
    ):
        lines = refused(capsys, *arguments(shards, tmp_path / "run", 2, *more))
        assert lines[0] == f"error: {message}"


def test_another_autoencoder_of_the_same_kind_is_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    manifest = read_json(out / "manifest.json")
    manifest["autoencoder"]["identity"]["channels"] = 3
    write_json(out / "manifest.json", manifest)
    assert refused(capsys, *arguments(out, tmp_path / "run", 2))[0] == (
        f"error: the shards `{out}` were made by an autoencoder whose `channels` is 3, not 1"
    )


def test_two_processes_train_on_shards(shards: Path, tmp_path: Path) -> None:
    fork_server().run(arguments(shards, tmp_path / "run", 4), ranks=2)
    assert package.load(tmp_path / "run").card.images_seen == 64
