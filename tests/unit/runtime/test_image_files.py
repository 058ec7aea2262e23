from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scalegan.data.sources import npz
from scalegan.runtime.image_files import grid, write_images

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0))
IMAGES = IMAGES.to(torch.uint8)
BATCHES, LABELS = IMAGES.split(2), [0, 1, 2, 0, 1]


def test_small_images_are_enlarged_in_a_grid() -> None:
    sheet = grid(IMAGES, columns=3)
    assert sheet.size == (3 * 49 - 1, 2 * 49 - 1)  # 48 pixels each, a gap of one between
    pixels = np.asarray(sheet)
    assert (pixels[49:97, 49:97][::6, ::6] == IMAGES[4].permute(1, 2, 0).numpy()).all()
    assert (pixels[:, 48] == 255).all() and (pixels[48] == 255).all()
    assert (pixels[49:, 98:] == 255).all(), "an empty place is white"


def test_large_images_keep_their_size() -> None:
    assert grid(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), columns=1).size == (64, 64)


def test_write_npz_is_a_source(tmp_path: Path) -> None:
    write_images(BATCHES, LABELS, tmp_path / "images.npz", columns=3)
    with np.load(tmp_path / "images.npz") as archive:
        assert archive["arr_0"].shape == (5, 8, 8, 3) and archive["arr_0"].dtype == np.uint8
        assert archive["arr_1"].tolist() == LABELS and archive["arr_1"].dtype == np.int64
    items = list(npz(str(tmp_path / "images.npz")))
    assert (items[3].image == IMAGES[3].permute(1, 2, 0).numpy()).all()


def test_write_folder_of_pngs(tmp_path: Path) -> None:
    write_images(BATCHES, LABELS, tmp_path / "out" / "images", columns=3)
    files = sorted((tmp_path / "out" / "images").iterdir())
    assert [file.name for file in files] == [f"{i:06d}-{k}.png" for i, k in enumerate(LABELS)]
    with Image.open(files[4]) as image:
        assert (np.asarray(image) == IMAGES[4].permute(1, 2, 0).numpy()).all()


def test_write_grid(tmp_path: Path) -> None:
    write_images(BATCHES, LABELS, tmp_path / "images.png", columns=5)
    with Image.open(tmp_path / "images.png") as image:
        assert (np.asarray(image) == np.asarray(grid(IMAGES, 5))).all()
    assert [path.name for path in tmp_path.iterdir()] == ["images.png"]
