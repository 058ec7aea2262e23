import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from scalegan.data import check as module
from scalegan.data.check import check_source, report_lines
from scalegan.data.images import Problem
from scalegan.data.sources import Source, SourceImage
from scalegan.errors import DataError
from tests.support.hostile import encode, noise


def source(
    *images: bytes | np.ndarray,
    names: int = 2,
    problems: Iterable[Problem] = (),
    notes: Iterable[str] = (),
) -> Source:
    found = [SourceImage(f"{i}.png", image, i % names) for i, image in enumerate(images)]
    class_names = [f"class {i}" for i in range(names)]
    return Source(lambda: found, class_names, len(images), list(problems), list(notes))


IMAGES = [encode(noise(i, 12, 8 + 4 * i)) for i in range(3)]


def test_findings() -> None:
    problems = [Problem("x", "has no label", "no usable label")]
    images = [*IMAGES, encode(noise(9)[..., 0], "JPEG"), b"", noise(5)]
    found = check_source(source(*images, problems=problems, notes=["odd"]), workers=0)
    assert found.num_good == 5 and found.classes == {0: 2, 1: 3}
    empty = ("4.png", "the file is empty", "cannot be decoded")
    assert found.bad == [("x", "has no label", "no usable label"), empty]
    assert found.odd == [("3.png", "is JPEG, whatever its name says", "odd")]
    assert found.modes == {"RGB": 4, "L": 1} and found.formats == {"PNG": 3, "JPEG": 1, "array": 1}
    assert found.sizes == {(8, 12): 1, (12, 12): 1, (16, 12): 1, (24, 24): 2}
    assert found.notices == [
        "odd", "not all images are square: a size crops them, such as --size 256"
    ]  # fmt: skip
    assert found.png_bytes > 200


def test_a_size_is_asked_for() -> None:
    assert [p.key for p in check_source(source(*IMAGES), 10).bad] == ["0.png"]
    assert check_source(source(*IMAGES), 10, allow_upscaling=True).bad == []
    assert check_source(source(*IMAGES), 8).notices == []


def test_notices() -> None:
    assert "only one class" in check_source(source(*IMAGES, names=1), 8).notices[0]
    assert check_source(source(*IMAGES, names=5), 8).notices == [
        "2 of 5 classes have no images: `class 3`, `class 4`"
    ]
    copies = check_source(source(IMAGES[0], IMAGES[1], IMAGES[0]), 8).notices
    assert copies == [
        "1 images are copies of others, bit for bit, such as `2.png` of `0.png`"
    ]  # fmt: skip
    problems = [
        Problem("0.png", "the same key again", "used twice"),
        Problem("1.png", "says twice but means something else", "cannot be read"),
    ]
    found = check_source(source(*IMAGES, problems=problems), 8)
    assert "1 keys are used twice, such as `0.png`" in found.notices
    sizes = [encode(noise(i, side, side)) for i, side in enumerate((8, 9))]
    assert "several sizes" in check_source(source(*sizes)).notices[0]


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = report_lines(check_source(source(*IMAGES, b"", b"x"), 8), tmp_path / "not" / "there")
    assert lines[:4] == ["left out:", "  3.png: the file is empty",
                         "  4.png: not an image: it begins with b'x'", ""]  # fmt: skip
    assert "3 images can be used, 2 images or labels cannot; 0.0 MB" in lines
    assert "reasons: cannot be decoded (1), not an image (1)" in lines
    assert f"`{tmp_path}` has" in "".join(lines) and "WHICH IS TOO LITTLE" not in "".join(lines)
    full = type("usage", (), {"free": 10})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    assert "WHICH IS TOO LITTLE" in "".join(report_lines(check_source(source(*IMAGES)), tmp_path))


def test_report_of_many_classes_and_of_nothing(tmp_path: Path) -> None:
    lines = report_lines(
        check_source(source(*[noise(i) for i in range(60)], names=50), 8), tmp_path
    )
    assert "50 classes of 1 to 2 images" in lines and "  ..." in lines
    assert sum("class " in line for line in lines) == 20
    assert report_lines(check_source(source(b"")), tmp_path)[-1].startswith(
        "notice: 2 of 2 classes have no"
    )


def test_a_dying_worker_is_one_sentence() -> None:
    deadly = [SourceImage("a", Deadly(), 0)]
    with pytest.raises(DataError, match="a worker process ended early"):
        check_source(Source(lambda: deadly, ["x"]), workers=2)


class Deadly(bytes):
    """Bytes that end the process that unpickles them."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        import os

        return os._exit, (1,)


def test_checking_does_not_wait_for_pytorch() -> None:
    code = "import sys, scalegan.data.check; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
