from pathlib import Path

import numpy as np
import pytest

from scalegan.data import check as module
from scalegan.data.check import check, report
from scalegan.data.sources import Item, Problem, Source
from scalegan.errors import DataError
from tests.support.hostile import encode, noise


def source(*images: bytes | np.ndarray, names: int = 2) -> Source:
    items = (Item(f"{i}.png", image, i % names) for i, image in enumerate(images))
    return Source(items, [f"class {i}" for i in range(names)], len(images))


IMAGES = [encode(noise(i, 12, 8 + 4 * i)) for i in range(3)]


def test_findings() -> None:
    given = source(*IMAGES, encode(noise(9)[..., 0], "JPEG"), b"", noise(5))
    given.problems.append(Problem("x", "has no label"))
    given.notes.append("odd")
    found = check(given, workers=0)
    assert found.num_good == 5 and found.classes == {0: 2, 1: 3}
    assert found.bad == [("x", "has no label"), ("4.png", "the file is empty")]
    assert found.odd == [("3.png", "is JPEG, whatever its name says")]
    assert found.modes == {"RGB": 4, "L": 1} and found.formats == {"PNG": 3, "JPEG": 1, "array": 1}
    assert found.sizes == {(8, 12): 1, (12, 12): 1, (16, 12): 1, (24, 24): 2}
    assert found.notices == [
        "odd", "not all images are square: a size crops them, such as --size 256"
    ]  # fmt: skip
    assert found.png_bytes > 200


def test_a_size_is_asked_for() -> None:
    assert [p.key for p in check(source(*IMAGES), 10).bad] == ["0.png"]
    assert check(source(*IMAGES), 10, allow_upscaling=True).bad == []
    assert check(source(*IMAGES), 8).notices == []


def test_notices() -> None:
    assert "only one class" in check(source(*IMAGES, names=1), 8).notices[0]
    assert check(source(*IMAGES, names=5), 8).notices == [
        "2 of 5 classes have no images: `class 3`, `class 4`"
    ]
    copies = check(source(IMAGES[0], IMAGES[1], IMAGES[0]), 8).notices
    assert copies == [
        "1 images are copies of others, bit for bit, such as `2.png` of `0.png`"
    ]  # fmt: skip
    given = source(*IMAGES)
    given.problems.append(Problem("0.png", "the key is used twice; the first one is kept"))
    assert "1 keys are used twice, such as `0.png`" in check(given, 8).notices
    sizes = [encode(noise(i, side, side)) for i, side in enumerate((8, 9))]
    assert "several sizes" in check(source(*sizes)).notices[0]


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = report(check(source(*IMAGES, b"", b"x"), 8), tmp_path / "not" / "there")
    assert lines[:4] == ["left out:", "  3.png: the file is empty",
                         "  4.png: not a image: it begins with b'x'", ""]  # fmt: skip
    assert "3 images can be used, 2 images or labels cannot; 0.0 MB" in lines
    assert f"`{tmp_path}` has" in "".join(lines) and "WHICH IS TOO LITTLE" not in "".join(lines)
    full = type("usage", (), {"free": 10})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    assert "WHICH IS TOO LITTLE" in "".join(report(check(source(*IMAGES)), tmp_path))


def test_report_of_many_classes_and_of_nothing(tmp_path: Path) -> None:
    lines = report(check(source(*[noise(i) for i in range(60)], names=50), 8), tmp_path)
    assert "50 classes of 1 to 2 images" in lines and "  ..." in lines
    assert sum("class " in line for line in lines) == 20
    assert report(check(source(b"")), tmp_path)[-1].startswith("notice: 2 of 2 classes have no")


def test_a_dying_worker_is_one_sentence() -> None:
    with pytest.raises(DataError, match="a process that decodes images died"):
        check(Source(iter([Item("a", Deadly(), 0)]), ["x"]), workers=1)


class Deadly(bytes):
    """Bytes that end the process that unpickles them."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        import os

        return os._exit, (1,)
