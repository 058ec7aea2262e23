from dataclasses import replace

import numpy as np
import pytest
import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.data.images import Problem, encode_png
from scalegan.data.memory import Subset, encode_rows, read_into_memory
from scalegan.data.sources import Source, SourceImage, class_notices
from scalegan.errors import DataError
from tests.support import tiny


def source(*images: np.ndarray) -> Source:
    found = [SourceImage(f"image-{i}", image, i) for i, image in enumerate(images)]
    return Source(lambda: found, [f"class-{i}" for i in range(len(images))])


GRAY, COLOR = np.full((4, 4), 7, np.uint8), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_collect_gray_images() -> None:
    images = read_into_memory(source(GRAY, GRAY + 1))
    assert images.images.shape == (2, 3, 4, 4) and images.images.dtype == torch.uint8
    assert images.images[1].unique().tolist() == [8]
    assert images.labels.tolist() == [0, 1] and images.labels.dtype == torch.int64
    assert images.class_names == ["class-0", "class-1"]
    assert images.is_gray


def test_collect_color_images_and_gray_ones_among_them() -> None:
    images = read_into_memory(source(GRAY, COLOR))
    assert not images.is_gray
    assert torch.equal(images.images[1], torch.from_numpy(COLOR).permute(2, 0, 1))
    assert images.images[0].unique().tolist() == [7]


def test_color_images_without_color_are_gray() -> None:
    assert read_into_memory(source(np.repeat(GRAY[..., None], 3, axis=2))).is_gray


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the source holds no image that can be used$"):
        read_into_memory(source())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([GRAY, GRAY[:2, :2]], "image `image-1` is 2x2; expected 4x4"),
        ([GRAY[:, :3]], "image `image-0` is 3x4; expected a square, for no size was given"),
    ],
)
def test_images_of_other_shapes_are_refused(images: list[np.ndarray], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_into_memory(source(*images))
    assert str(caught.value) == message
    assert caught.value.hint.startswith("all images must be square and of one size; ")


def test_a_size_crops_and_bad_images_are_left_out_and_counted() -> None:
    found = [
        SourceImage("good", encode_png(np.zeros((3, 8, 8), np.uint8)), 0),
        SourceImage("wide", np.zeros((6, 9), np.uint8), 1),
        SourceImage("small", GRAY, 1),
        SourceImage("empty", b"", 1),
    ]
    problems = [Problem("lost", "has no label", "no usable label")]
    images = read_into_memory(Source(lambda: found, ["a", "b"], 4, problems, ["odd"]), size=6)
    assert images.images.shape == (2, 3, 6, 6) and images.labels.tolist() == [0, 1]
    assert images.notes == (
        "odd",
        "3 images or labels cannot be used and are left out, such as `lost`: has no label; "
        "`scalegan check` lists them all",
    )


def test_a_source_of_bad_images_alone_is_refused() -> None:
    with pytest.raises(
        DataError, match="no image that can be used; the first of 1 left out or passed over: `"
    ):
        read_into_memory(Source(lambda: [SourceImage("a", b"", 0)], ["x"]))


@pytest.mark.parametrize(
    ("names", "labels", "notice"),
    [
        (["a", "b"], [0, 1], []),
        (["a"], [0], ["there is only one class: "]),
        (["a", "b", "c"], [1], ["2 of 3 classes have no images: `a`, `c`"]),
        (list("abcdefgh"), [0], ["7 of 8 classes have no images: `b`, `c`, `d`, `e`, `f`, ..."]),
    ],
)
def test_class_notices(names: list[str], labels: list[int], notice: list[str]) -> None:
    found = class_notices(names, labels)
    assert len(found) == len(notice) and all(map(str.startswith, found, notice))


def test_encode_keeps_images_only_if_asked() -> None:
    images = read_into_memory(source(GRAY, GRAY + 1))
    rows = encode_rows(images, Identity(1, 4), keep_images=False)
    assert rows.stored.shape == (2, 1, 4, 4) and rows.images is None
    assert rows.read(torch.tensor([0])).images is None
    kept = encode_rows(images, Identity(1, 4), keep_images=True)
    assert torch.equal(kept.images, images.images)


def test_read_keeps_image_label_and_image_of_a_row_together() -> None:
    rows = tiny.rows(6, with_images=True)
    batch = rows.read(torch.tensor([4, 1, 4]))
    assert len(rows) == 6
    assert batch.labels.tolist() == [1, 1, 1]
    assert torch.equal(batch.stored, rows.stored[[4, 1, 4]])
    assert torch.equal(batch.images, rows.images[[4, 1, 4]])


def test_rows_move_with_all_that_belongs_to_them() -> None:
    rows = replace(tiny.rows(6, with_images=True), fingerprint="abc", copies=2)
    moved = rows.to(tiny.CPU)
    assert torch.equal(moved.stored, rows.stored) and torch.equal(moved.labels, rows.labels)
    assert torch.equal(moved.images, rows.images)
    assert (moved.fingerprint, moved.copies, moved.is_in_memory) == ("abc", 2, True)
    assert tiny.rows(4).to(tiny.CPU).images is None


def test_a_subset_reads_its_rows_from_the_whole() -> None:
    rows = replace(tiny.rows(6), fingerprint="abc", copies=2)
    subset = Subset(rows, torch.tensor([5, 0, 3])).to(tiny.CPU)
    assert len(subset) == 3 and subset.labels.tolist() == rows.labels[[5, 0, 3]].tolist()
    assert torch.equal(subset.read(torch.tensor([2, 0])).stored, rows.stored[[3, 5]])
    assert (subset.fingerprint, subset.copies, subset.is_in_memory) == ("abc", 2, True)


def test_the_fingerprint_is_that_of_images_and_labels() -> None:
    images = read_into_memory(source(GRAY, GRAY + 1))
    rows = encode_rows(images, Identity(1, 4), keep_images=False)
    assert (
        rows.fingerprint
        == images.fingerprint
        == read_into_memory(source(GRAY, GRAY + 1)).fingerprint
    )
    assert images._replace(labels=images.labels + 1).fingerprint != rows.fingerprint
    assert images._replace(images=images.images + 1).fingerprint != rows.fingerprint
