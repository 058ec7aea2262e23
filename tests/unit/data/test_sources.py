from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalegan.data.images import Decoded, Problem
from scalegan.data.sources import Source, SourceImage, decode_each, digits, npz
from scalegan.errors import DataError


def archive(path: Path, images: np.ndarray | None, labels: np.ndarray | None) -> str:
    arrays = {"arr_0": images, "arr_1": labels}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
LABELS = np.array([2, 0])


def test_digits() -> None:
    source = digits()
    items = list(source)
    assert len(items) == 1797 and len({item.key for item in items}) == 1797
    assert source.class_names == [str(digit) for digit in range(10)]
    assert items[0].image.shape == (8, 8) and items[0].image.dtype == np.uint8
    assert items[0].label == 0 and items[1].label == 1
    assert max(item.image.max() for item in items) == 255
    assert items[0].image[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 5, 13, 9, 1 of 16
    again = list(digits())
    assert all((a.image == b.image).all() for a, b in zip(items, again, strict=True))


def test_npz(file: Path) -> None:
    source = npz(archive(file, IMAGES, LABELS))
    items = list(source)
    assert [item.key for item in items] == ["00000000", "00000001"]
    assert [item.label for item in items] == [2, 0]
    assert all((item.image == image).all() for item, image in zip(items, IMAGES, strict=True))
    assert source.class_names == ["0", "1", "2"]  # a class without images keeps its place


@pytest.mark.parametrize("images", [IMAGES[..., 0], IMAGES[..., :1]])
def test_npz_of_gray_images(file: Path, images: np.ndarray) -> None:
    items = list(npz(archive(file, images, LABELS)))
    assert [item.image.shape for item in items] == [(4, 4), (4, 4)]
    assert (items[1].image == IMAGES[1, ..., 0]).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_npz_with_labels_of_any_integer_type(file: Path, kind: type) -> None:
    items = list(npz(archive(file, IMAGES, LABELS.astype(kind))))
    assert [(item.label, type(item.label)) for item in items] == [(2, int), (0, int)]


def test_npz_of_one_image_and_class(file: Path) -> None:
    source = npz(archive(file, IMAGES[:1], np.array([0])))
    assert len(list(source)) == 1 and source.class_names == ["0"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "`arr_0` of `{}` is float32 with 4 axes; expected"),
        (IMAGES.reshape(2, -1), LABELS, "`arr_0` of `{}` is uint8 with 2 axes; expected uint8"),
        (IMAGES.reshape(2, 4, 6, 2), LABELS, "`arr_0` of `{}` has 2 channels; expected 1 or 3"),
        (IMAGES, LABELS[:1], "`arr_1` of `{}` has shape (1,); expected a label for each of the 2"),
        (IMAGES, LABELS[:, None], "`arr_1` of `{}` has shape (2, 1); expected a label for each"),
        (IMAGES, LABELS > 0, "`arr_1` of `{}`: no label can be read"),
        (IMAGES, LABELS + 100_000, "`arr_1` of `{}`: no label can be read"),
        (IMAGES[:0], LABELS[:0], "`{}` holds no images"),
        (None, LABELS, "`{}` lacks the array arr_0; it has arr_1"),
        (IMAGES, np.array([{}, {}]), "`{}` is not a readable .npz of plain arrays: Object arrays"),
    ],
)  # fmt: skip
def test_npz_refuses(
    file: Path, images: np.ndarray | None, labels: np.ndarray | None, message: str
) -> None:
    path = archive(file, images, labels)
    with pytest.raises(DataError) as caught:
        npz(path)
    assert str(caught.value).startswith(message.format(path))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([2, 0, -1], "label -1 is outside 0..2"),
        ([2, 0, 100_000], "label 100000 is outside 0..2"),
        (
            np.array([2, 0, 2**64 - 1], np.uint64),
            "label `18446744073709551615` is not one of the 3 classes",
        ),
        ([2, 0, 1.5], "label `1.5` is not one of the"),
    ],
)
def test_npz_lists_labels_that_cannot_be_used(file: Path, labels: Any, reason: str) -> None:
    source = npz(archive(file, IMAGES[[0, 1, 0]], np.asarray(labels)))
    assert [item.key for item in source] == ["00000000", "00000001"]
    assert [problem.key for problem in source.problems] == ["00000002"]
    assert source.problems[0].reason.startswith(reason)


def test_npz_without_labels_is_one_class(file: Path) -> None:
    source = npz(archive(file, IMAGES, None))
    assert len(list(source)) == 2 and source.class_names == ["all"]
    assert source.notes == [f"`{file}` has no labels: all images are one class"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_npz_refuses_other_files(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"is not a readable \.npz of plain arrays"):
        npz(str(file))


def test_npz_refuses_a_bare_array(tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", IMAGES)
    with pytest.raises(DataError, match=r"is not a readable \.npz of plain arrays"):
        npz(str(tmp_path / "bare.npy"))


def test_npz_refuses_a_cut_file(file: Path) -> None:
    archive(file, IMAGES, LABELS)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=r"is not a readable \.npz of plain arrays"):
        npz(str(file))


def test_npz_refuses_a_flipped_bit(file: Path) -> None:
    archive(file, IMAGES, LABELS)
    content = bytearray(file.read_bytes())
    content[content.index(IMAGES.tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"is not a readable \.npz of plain arrays: Bad CRC"):
        npz(str(file))


def test_npz_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file `") as caught:
        npz(str(tmp_path / "none.npz"))
    assert caught.value.hint == "the source is npz:PATH"


def test_each_iteration_reads_from_the_start_and_lists_problems_once() -> None:
    problems = [Problem("z", "was lost before", "cannot be read")]

    def read() -> Iterator[SourceImage]:
        yield SourceImage("a", b"", 0)
        source.problems.append(Problem("b", "cannot be read", "cannot be read"))
        source.notes.append("one is lost")

    source = Source(read, ["x"], problems=problems)
    for _ in range(2):
        assert [image.key for image in source] == ["a"]
        assert [problem.key for problem in source.problems] == ["z", "b"]
        assert source.notes == ["one is lost"]
    next(iter(source))  # a reading that is given up
    assert [problem.key for problem in source.problems] == ["z"]


def test_decode_each_tells_images_from_problems() -> None:
    wide = np.zeros((4, 6, 3), np.uint8)
    images = [SourceImage("a", IMAGES[0], 0), SourceImage("b", b"", 1), SourceImage("c", wide, 2)]

    def kinds(side: int, **options: bool) -> list[str]:
        found = list(decode_each(images, side, **options))
        assert [image for image, _ in found] == images
        return ["" if isinstance(one, Decoded) else one.kind for _, one in found]

    assert kinds(0) == ["", "cannot be decoded", "wrong size"]
    assert kinds(0, must_be_square=False) == ["", "cannot be decoded", ""]
    assert kinds(4) == ["", "cannot be decoded", ""]
    assert kinds(5) == ["wrong size", "cannot be decoded", "wrong size"]
    assert kinds(5, allow_upscaling=True) == ["", "cannot be decoded", ""]
    decoded = next(decode_each(images))[1]
    assert isinstance(decoded, Decoded)
    assert np.array_equal(decoded.pixels(), IMAGES[0].transpose(2, 0, 1))
    assert decoded.pixels(2).shape == (3, 2, 2)
