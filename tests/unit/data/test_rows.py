import numpy as np
import pytest
import torch

from scalegan.autoencoders.base import Identity
from scalegan.data.rows import collect, encode
from scalegan.data.sources import Item, Source
from scalegan.errors import DataError
from tests import tiny


def source(*images: np.ndarray) -> Source:
    items = (Item(f"picture-{i}", image, i) for i, image in enumerate(images))
    return Source(items, [f"class-{i}" for i in range(len(images))])


GREY, COLOR = np.full((4, 4), 7, np.uint8), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_collect_grey_pictures() -> None:
    pictures = collect(source(GREY, GREY + 1))
    assert pictures.images.shape == (2, 3, 4, 4) and pictures.images.dtype == torch.uint8
    assert pictures.images[1].unique().tolist() == [8]
    assert pictures.labels.tolist() == [0, 1] and pictures.labels.dtype == torch.int64
    assert pictures.class_names == ["class-0", "class-1"]
    assert pictures.is_grey


def test_collect_color_pictures_and_grey_ones_among_them() -> None:
    pictures = collect(source(GREY, COLOR))
    assert not pictures.is_grey
    assert torch.equal(pictures.images[1], torch.from_numpy(COLOR).permute(2, 0, 1))
    assert pictures.images[0].unique().tolist() == [7]


def test_color_pictures_without_color_are_grey() -> None:
    assert collect(source(np.repeat(GREY[..., None], 3, axis=2))).is_grey


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the source holds no pictures$"):
        collect(source())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([GREY, GREY[:2, :2]], "picture `picture-1` is 2x2; expected 4x4"),
        ([GREY[:, :3]], "picture `picture-0` is 3x4; expected 4x4"),
    ],
)
def test_pictures_of_other_shapes_are_refused(images: list[np.ndarray], message: str) -> None:
    with pytest.raises(DataError) as caught:
        collect(source(*images))
    assert str(caught.value) == message
    assert caught.value.hint == "all pictures must be square and of one size"


def test_encode_keeps_images_only_if_asked() -> None:
    pictures = collect(source(GREY, GREY + 1))
    rows = encode(pictures, Identity(1, 4), keep_images=False)
    assert rows.stored.shape == (2, 1, 4, 4) and rows.images is None
    assert rows.read(torch.tensor([0])).images is None
    kept = encode(pictures, Identity(1, 4), keep_images=True)
    assert torch.equal(kept.images, pictures.images)


def test_read_keeps_picture_label_and_image_of_a_row_together() -> None:
    rows = tiny.rows(6, with_images=True)
    batch = rows.read(torch.tensor([4, 1, 4]))
    assert len(rows) == 6
    assert batch.labels.tolist() == [1, 1, 1]
    assert torch.equal(batch.stored, rows.stored[[4, 1, 4]])
    assert torch.equal(batch.images, rows.images[[4, 1, 4]])
