"""CIFAR-10 and photographs through each kind of autoencoder to a trained network, on small parts.

docs/latents.md has the whole commands and what came out.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import scalegan as package
from scalegan.data.shards import Shards
from tests.end_to_end.test_autoencoder import here, train
from tests.support.latents import SHARED, TAEF2

CIFAR, PHOTOS = SHARED / "data" / "cifar10" / "test.parquet", SHARED / "data" / "imagenet_sample"
SIZES = {"cifar": 32, "photos": 64}
PATCHES = {"identity": 8, "taef2": 2, "kl": 4}

pytestmark = pytest.mark.skipif(
    not (CIFAR.is_file() and PHOTOS.is_dir() and TAEF2.is_dir()),
    reason=f"needs `{CIFAR}`, `{PHOTOS}` and `{TAEF2}`",
)


@pytest.fixture(scope="module", params=SIZES)
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A folder with a few images, their shards of pixels, and an autoencoder fitted to those."""
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    if kind == "cifar":
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pq.read_table(CIFAR).slice(0, 80), folder / "source.parquet")
        source = str(folder / "source.parquet")
    else:
        for name in sorted(path.name for path in PHOTOS.iterdir() if path.is_dir())[:6]:
            shutil.copytree(PHOTOS / name, folder / "source" / name)
        source = str(folder / "source")
    here("prepare", source, str(folder / "identity"), "--size", str(SIZES[kind]), "--mirror",
         "--workers", "1", "--shard-rows", "100")  # fmt: skip
    text, _ = here("autoencoder", "train", str(folder / "identity"), "--out",
                   str(folder / "autoencoder"), "--factor", "4", "--width", "8",
                   "--batch-size", "4", "--duration", "2 steps")  # fmt: skip
    assert f"images of {SIZES[kind]}x{SIZES[kind]} become" in text
    return folder, source


@pytest.mark.parametrize("kind", PATCHES)
def test_images_to_shards_to_images(kind: str, prepared: tuple[Path, str]) -> None:
    folder, source = prepared
    size = SIZES["cifar" if source.endswith(".parquet") else "photos"]
    path = {"identity": "", "taef2": str(TAEF2), "kl": str(folder / "autoencoder")}[kind]
    if kind != "identity":
        here("prepare", source, str(folder / kind), "--size", str(size), "--autoencoder", path,
             "--workers", "1", "--keep-images")  # fmt: skip
    shapes = {"identity": (3, size, size), "taef2": (32, size // 8, size // 8),
              "kl": (8, size // 4, size // 4)}  # fmt: skip
    shards = Shards(folder / kind)
    assert shards.shape == shapes[kind]
    assert len(shards) == (80 if size == 32 else 6) * (2 if kind == "identity" else 1)
    run = folder / f"run-{kind}"
    latent = [] if kind == "identity" else ["--autoencoder.kind", kind, "--autoencoder.path", path]
    train(run, 2, "--data.shards", str(folder / kind), *latent, "--model.patch-size",
          str(PATCHES[kind]), "--train.batch-size", "4")  # fmt: skip
    gan = package.load(run)
    assert gan.sample(3, seed=1).shape == (3, 3, size, size)
    assert len(gan.card.class_names) == (10 if size == 32 else 6)
    name = "frog" if size == 32 else gan.card.class_names[2]
    here("sample", str(run), "--classes", name, "--seeds", "0-1", "--out", str(run / "two.npz"))
    assert np.load(run / "two.npz")["arr_0"].shape == (2, size, size, 3)
