"""Grids of images, as they stand in the page."""

import io
from pathlib import Path

import torch
from PIL import Image

from scalegan.reports.image_grids import (
    LARGEST_CELL,
    LARGEST_FILE,
    file_figure,
    grid_figure,
    sample_grids,
)


def test_tiny_images_are_enlarged_exactly_and_large_ones_reduced() -> None:
    tiny = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    found = grid_figure(tiny, 2, "tiny")
    image = Image.open(io.BytesIO(found.data))
    assert found.media_type == "image/png" and found.width == image.width == 2 * 48 + 1
    assert image.getpixel((50, 3)) == tuple(tiny[1, :, 0, 0].tolist())
    large = grid_figure(torch.zeros(4, 3, 512, 512, dtype=torch.uint8), 2, "large")
    assert large.media_type == "image/jpeg" and large.width == 2 * LARGEST_CELL + 1


def test_large_files_are_reduced(tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (1200, 1200, 3), dtype=torch.uint8).numpy()
    path = tmp_path / "grid.png"
    Image.fromarray(noise).save(path)
    found = file_figure(path, "grid", "grid.png", 100)
    assert path.stat().st_size > LARGEST_FILE > len(found.data)
    Image.fromarray(noise[:50, :50]).save(path)
    assert file_figure(path, "grid", "grid.png", 100).data == path.read_bytes()


def test_grids_of_samples_are_found_by_step(tmp_path: Path) -> None:
    assert sample_grids(tmp_path) == {}
    (tmp_path / "samples").mkdir()
    for step in (200, 40):
        (tmp_path / "samples" / f"step-{step:08d}.png").touch()
    (tmp_path / "samples" / "other.png").touch()
    assert [*sample_grids(tmp_path)] == [40, 200]
