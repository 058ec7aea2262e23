"""A latent space of one's own: fit an autoencoder, train a GAN in it, draw images from it."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scalegan as package
from scalegan.autoencoders.fit import split
from scalegan.cli import main
from scalegan.config.auxiliary import FitConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import save_tensors
from scalegan.train.autoencoder import ImageSubset, open_images, rows_of
from tests.support import latents
from tests.support.runs import train_arguments
from tests.unit.autoencoders.test_lpips import layers, tensors

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
    assert "images of 8x8 become 4x4x4" in text
    assert "PSNR " in text and "SSIM " in text and "on 90 held-out images" in text
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
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size[0] > 40
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
    "autoencoder": (
        "`scalegan autoencoder train` needs SOURCE | "
        "`scalegan autoencoder train --help` explains it"
    ),
    "autoencoder fit digits": (
        "unknown command `autoencoder fit` | did you mean `autoencoder train`?"
    ),
    "autoencoder train imagenet": (
        "`imagenet` is neither a file nor a folder, nor a source's name | a path, or one of "
        "folder, flat, zip, webdataset, parquet, npz, digits with a colon and a path, as in "
        "npz:PATH"
    ),
    "autoencoder train digits --factor 3": None,
    "autoencoder train digits --width 12": "`width` is 12; input should be a multiple of 8",
    "autoencoder train digits --held-out 1": "`held_out` is 1.0; input should be less than 1",
    "autoencoder train digits --duration 5": (
        '`duration` is "5"; expected a positive number and a unit | '
        'for example "150k steps", "50M images" or "60 epochs"'
    ),
    "autoencoder train digits --size 16": (
        "the source holds no image that can be used; the first of 1,797 left out or passed over: "
        "`0000`, is 8x8, smaller than 16; upscaling is not allowed"
    ),
    "autoencoder train digits --factor 16": (
        "images of 8x8 do not fit an autoencoder of factor 16 | "
        "choose --size or --factor so that the side is a multiple of 16"
    ),
    "autoencoder train digits --lpips 2": (
        "`lpips` is set but there is no `lpips_path` | set it to a file"
    ),
    "autoencoder train digits --lpips-path x.pth": (
        "there is no file `x.pth`; it is the `lpips_path` | expected the state dict of "
        "lpips.LPIPS(net='vgg') or (net='alex') as safetensors"
    ),
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


def test_what_is_there_is_not_written_over(fitted: tuple[Path, str], tmp_path: Path) -> None:
    errors = here("autoencoder", "train", "digits", "--out", str(fitted[0]), *SMALL, code=2)[1]
    assert errors.startswith(f"error: `{fitted[0]}` holds a finished autoencoder\n")
    (tmp_path / "mine").write_text("precious")
    for out in (tmp_path, tmp_path / "mine"):
        errors = here("autoencoder", "train", "digits", "--out", str(out), *SMALL, code=2)[1]
        assert errors.startswith(f"error: `{out}` exists already\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def save_images(folder: Path, count: int = 24, side: tuple[int, int] = (20, 16)) -> None:
    """Images in two classes, and one that is none."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class {i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)).save(path)
    (folder / "class 0" / "bad.png").write_bytes(b"no image")


def fit(source: Path, out: Path, *more: str) -> str:
    return here("autoencoder", "train", str(source), "--out", str(out), *SMALL, *more)[0]


def weights(folder: Path) -> bytes:
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


def test_files_pixel_shards_and_kept_images_are_the_same(tmp_path: Path) -> None:
    """A plain path, cropped as everywhere; shards of pixels; latents with kept images."""
    save_images(tmp_path / "images")
    text = fit(tmp_path / "images", tmp_path / "first", "--size", "16")
    assert "images of 16x16 become 4x8x8" in text
    assert "notice: 1 images or labels cannot be used" in text and "bad.png" in text
    for name, more in {"pixels": [], "kept": ["--autoencoder", str(tmp_path / "first")]}.items():
        options = ["--size", "16", "--workers", "1", *more]
        options += ["--keep-images"] if name == "kept" else []
        out = str(tmp_path / f"shards-{name}")
        here("prepare", str(tmp_path / "images"), out, *options)
        fit(tmp_path / f"shards-{name}", tmp_path / name)
        assert weights(tmp_path / name) == weights(tmp_path / "first")
    shutil.rmtree(tmp_path / "shards-kept")
    here("prepare", str(tmp_path / "images"), str(tmp_path / "shards-kept"), "--size", "16",
         "--workers", "1", "--autoencoder", str(tmp_path / "first"))  # fmt: skip
    for source, more, message in (
        ("shards-kept", [], "holds latents and no images, which an autoencoder is fitted to"),
        ("shards-pixels", ["--size", "8"], "`size` is 8 but the images of `"),
        ("images", [], "a size such as --size 64 crops them"),
    ):
        arguments = ["autoencoder", "train", str(tmp_path / source), "--out", str(tmp_path / "no")]
        assert message in here(*arguments, *SMALL, *more, code=2)[1]
    assert not (tmp_path / "no").exists()


def test_mirror_images_go_where_their_images_go(tmp_path: Path) -> None:
    save_images(tmp_path / "images", side=(8, 8))
    here("prepare", str(tmp_path / "images"), str(tmp_path / "shards"), "--mirror",
         "--workers", "1")  # fmt: skip
    opened = open_images(str(tmp_path / "shards"), 0)
    train, held_out = (rows_of(places, 2) for places in split(24, FitConfig(held_out=0.2)))
    assert opened.copies == 2 and len(held_out) == 10
    assert not set((train // 2).tolist()) & set((held_out // 2).tolist())
    images = ImageSubset(opened.rows, held_out).read(torch.arange(10)).stored
    assert torch.equal(images[1::2], images[::2].flip(-1))


def test_lpips_is_one_of_the_terms(tmp_path: Path) -> None:
    save_images(tmp_path / "images", side=(16, 16))
    save_tensors(tensors("VGG16", layers("VGG16")), tmp_path / "lpips.safetensors")
    fit(tmp_path / "images", tmp_path / "plain")
    fit(tmp_path / "images", tmp_path / "lpips", "--lpips-path",
        str(tmp_path / "lpips.safetensors"))  # fmt: skip
    assert weights(tmp_path / "plain") != weights(tmp_path / "lpips")
    errors = here("autoencoder", "train", "digits", "--out", str(tmp_path / "no"), "--lpips-path",
                  str(tmp_path / "lpips.safetensors"), *SMALL, code=2)[1]  # fmt: skip
    assert "images of 8x8 are too small for LPIPS on VGG16" in errors
    assert not (tmp_path / "no").exists()
