import numpy as np
import pytest
import torch
from PIL import Image

from scalegan.features.resize import FILTERS


def inputs(height: int, width: int, count: int = 2) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=rng).to(torch.uint8)


@pytest.mark.parametrize("name", FILTERS)
def test_all_stretch_to_a_square_and_keep_what_is_flat(name: str) -> None:
    flat = torch.full((2, 3, 9, 14), 77, dtype=torch.uint8)
    result = FILTERS[name](flat, 11)
    assert result.shape == (2, 3, 11, 11) and result.dtype == torch.float32
    assert (result - 77).abs().max() < 1e-4


@pytest.mark.parametrize("name", FILTERS)
def test_the_same_side_changes_nothing(name: str) -> None:
    images = inputs(8, 8)
    assert (FILTERS[name](images, 8) - images).abs().max() < 1e-4


@pytest.mark.parametrize("name", FILTERS)
def test_images_do_not_know_of_each_other(name: str) -> None:
    images = inputs(13, 10, count=3)
    result = FILTERS[name](images, 7)
    assert torch.equal(result[1:2], FILTERS[name](images[1:2], 7))


def test_tf1_bilinear_by_hand() -> None:
    """Twice as large: coordinates 0, 0.5, 1, 1.5; the last lies beyond and is repeated."""
    row = torch.tensor([0, 100], dtype=torch.uint8).expand(1, 3, 2, 2)
    result = FILTERS["tf1-bilinear"](row, 4)
    assert result[0, 0].tolist() == [[0, 50, 100, 100]] * 4
    half = FILTERS["halfpixel-bilinear"](row, 4)
    assert half[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_tf1_bilinear_does_not_smooth_what_it_shrinks() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).expand(1, 3, 16, 16)
    assert (FILTERS["tf1-bilinear"](stripes, 8) == 0).all()
    assert (FILTERS["clean-bicubic"](stripes, 8) - 127.5).abs()[..., 2:-2].max() < 1


@pytest.mark.parametrize("size", [(12, 12), (9, 20)])
def test_clean_bicubic_is_pillow_on_floats(size: tuple[int, int]) -> None:
    images = inputs(*size)
    for image, result in zip(images, FILTERS["clean-bicubic"](images, 7), strict=True):
        for channel, found in zip(image, result, strict=True):
            tile = Image.fromarray(channel.float().numpy())
            theirs = np.asarray(tile.resize((7, 7), Image.Resampling.BICUBIC)).clip(0, 255)
            assert np.allclose(found.numpy(), theirs, rtol=0, atol=1e-4)


def test_tall_images_are_shrunk_in_columns_first() -> None:
    """Pillow's order since version 13, whatever version is installed."""
    image = inputs(64, 48, count=1)
    tile = Image.fromarray(image[0, 0].float().numpy())
    bicubic = Image.Resampling.BICUBIC
    for side, between in ((41, (48, 41)), (19, (19, 64))):
        theirs = np.asarray(tile.resize(between, bicubic).resize((side, side), bicubic))
        ours = FILTERS["clean-bicubic"](image, side)[0, 0].numpy()
        assert (ours == theirs.clip(0, 255)).all()
