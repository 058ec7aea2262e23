"""A latent space of one's own: fit an autoencoder, train a GAN in it, draw pictures from it."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scalegan as package
from scalegan.cli import main
from scalegan.errors import CheckpointError, ConfigError
from tests import latents
from tests.runs import train_arguments

SMALL = ["--factor", "2", "--width", "8", "--duration", "4 steps", "--batch-size", "8"]
IN_LATENTS = ["--model.patch-size", "2", "--autoencoder.kind", "kl", "--autoencoder.path"]


def here(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, which has diffusers already: what it said, and its errors."""
    out, errors = io.StringIO(), io.StringIO()
    redirected = contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors)
    with redirected[0], redirected[1], pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert (stop.value.code or 0) == code, errors.getvalue()
    return out.getvalue(), errors.getvalue()


def train(run: Path, steps: int, *more: str, code: int = 0) -> str:
    return here(*train_arguments(run, steps), *more, code=code)[1]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("autoencoders") / "digits"
    return out, here("autoencoder", "train", "digits", "--out", str(out), *SMALL)[0]


@pytest.fixture(scope="module")
def run(fitted: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "latents"
    train(run, 2, *IN_LATENTS, str(fitted[0]))
    return run


def test_what_is_fitted_is_told_and_loads(fitted: tuple[Path, str]) -> None:
    out, text = fitted
    assert "pictures of 8x8 become 4x4x4" in text
    assert "PSNR " in text and "SSIM " in text and "on 90 held-out pictures" in text
    assert "latents, by channel: mean " in text
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "diffusion_pytorch_model.safetensors", "latent_stats.json"} <= names


def test_a_gan_lives_in_it(run: Path, tmp_path: Path) -> None:
    gan = package.load(run)
    assert gan.card.shape == (4, 4, 4) and gan.card.identity["kind"] == "kl"
    images = gan.sample(5, seed=3)
    assert images.shape == (5, 3, 8, 8) and torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(gan.sample(1, classes=[4], seed=4), images[1:2])
    here("sample", str(run), "--seeds", "0-3", "--out", str(tmp_path / "grid.png"))
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size[0] > 40
    assert "4 x 4 x 4, autoencoder `kl`" in here("info", str(run))[0]


def test_it_goes_on_where_it_stopped(run: Path, fitted: tuple[Path, str], tmp_path: Path) -> None:
    """Moments are drawn from the step's own stream: a resumed run equals a straight one."""
    for steps in (2, 4):
        train(tmp_path / "resumed", steps, *IN_LATENTS, str(fitted[0]))
    train(tmp_path / "straight", 4, *IN_LATENTS, str(fitted[0]))
    weights = Path("snapshots", "step-00000004", "generator.safetensors")
    assert (tmp_path / "resumed" / weights).read_bytes() == (
        tmp_path / "straight" / weights
    ).read_bytes()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("autoencoders") / "other"
    here("autoencoder", "train", "digits", "--out", str(out), *SMALL, "--seed", "1")
    return out


def test_another_autoencoder_is_refused(
    run: Path, fitted: tuple[Path, str], other: Path, tmp_path: Path
) -> None:
    errors = here("sample", str(run), "--autoencoder", str(other), code=2)[1]
    assert errors.splitlines() == [
        f"error: `digits` was trained with another autoencoder than `{other}`; what differs: "
        "weights, shift, scale",
        "hint: decode with the one it was trained with: `--autoencoder FOLDER`",
    ]
    with pytest.raises(CheckpointError, match=r"what differs: kind, weights, factor$"):
        package.load(run, autoencoder="identity")
    # Nor is a run gone on with in it, even where the folder's name is the same.
    train(tmp_path / "run", 1, *IN_LATENTS, str(fitted[0]))
    errors = train(tmp_path / "run", 2, *IN_LATENTS, str(other), code=2)
    assert "was made with another autoencoder, or its files have changed" in errors


def test_a_moved_autoencoder_is_named(
    run: Path, fitted: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = package.load(run).sample(3)
    moved = tmp_path / "moved"
    fitted[0].rename(moved)
    try:
        with pytest.raises(ConfigError, match=r"^there is no folder `") as caught:
            package.load(run)
        assert "--autoencoder FOLDER" in caught.value.hint
        assert torch.equal(package.load(run, autoencoder=moved).sample(3), images)
    finally:
        moved.rename(fitted[0])


@pytest.mark.skipif(not latents.TAEF2.is_dir(), reason=latents.WHY)
def test_a_gan_in_the_latents_of_taef2(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images, np.arange(20) % 2)
    train(
        *(tmp_path / "run", 2, "--data.source", f"npz:{tmp_path / 'data.npz'}"),
        *("--autoencoder.kind", "taef2", "--autoencoder.path", str(latents.TAEF2)),
        *("--model.patch-size", "1"),
    )
    gan = package.load(tmp_path / "run")
    assert gan.card.shape == (32, 2, 2)
    assert gan.sample(2).shape == (2, 3, 16, 16)


MISTAKES = {
    "autoencoder": "`scalegan autoencoder train` needs a SOURCE | for example digits or npz:PATH",
    "autoencoder fit digits": "unknown command `autoencoder fit` | there is `autoencoder train`",
    "autoencoder train imagenet": (
        "the source is `imagenet`; expected one of: folder, flat, zip, webdataset, parquet, npz, "
        "digits | "
        "a path follows the name and a colon, as in npz:PATH"
    ),
    "autoencoder train digits --factor 3": None,
    "autoencoder train digits --width 12": "`width` is 12; input should be a multiple of 8",
    "autoencoder train digits --held-out 1": "`held_out` is 1.0; input should be less than 1",
    "autoencoder train digits --duration 5": (
        '`duration` is "5"; expected a positive number and a unit | '
        'for example "150k steps", "50M images" or "60 epochs"'
    ),
    "autoencoder train digits --size 16": (
        "the pictures are 8x8; `size` 16 would enlarge them | choose 8 or less"
    ),
    "autoencoder train digits --factor 16": (
        "pictures of 8x8 do not fit an autoencoder of factor 16 | "
        "choose --size or --factor so that the side is a multiple of 16"
    ),
    "autoencoder train digits --out .": ("`.` exists already | choose another --out, or remove it"),
    "train digits --autoencoder.kind kl": (
        "`autoencoder.kind` `kl` needs `autoencoder.path` | name the folder that holds its files"
    ),
    "train digits --autoencoder.path x": (
        "`autoencoder` is set but its kind is identity | "
        "set `autoencoder.kind`, for example to kl, or leave the rest out"
    ),
    "train digits --autoencoder.kind kl --autoencoder.path x": (
        "there is no folder `x`; it is the `autoencoder.path` | "
        "name the folder that holds the autoencoder's files"
    ),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistake(
    command: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and 1 <= len(lines) <= 2 and lines[0].startswith("error: ")
    if MISTAKES[command]:
        message, _, hint = MISTAKES[command].partition(" | ")
        assert lines == [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    assert list(tmp_path.iterdir()) == []


def test_size_scales_down(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    text, _ = here("autoencoder", "train", "digits", "--size", "4", "--out", out, *SMALL)
    assert "pictures of 4x4 become 4x2x2" in text
    statistics = json.loads((tmp_path / "out" / "latent_stats.json").read_text())
    assert statistics["settings"]["size"] == 4
