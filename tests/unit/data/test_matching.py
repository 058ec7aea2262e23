from pathlib import Path

import pytest

from scalegan.data.files import webdataset
from tests.support.hostile import encode, noise
from tests.unit.data.test_files import read, reasons
from tests.unit.data.test_listings import make_tar

PNG = encode(noise(0, 4, 4))


def test_further_images_of_a_sample_are_listed(tmp_path: Path) -> None:
    """A mask does not silently take the place of the photograph, whichever comes first."""
    members = [("1.seg.png", PNG), ("1.jpg", PNG), ("1.cls", b"0"), ("1.png", PNG)]
    source = webdataset(make_tar(tmp_path / "x.tar", members))
    assert [(image.key, image.image) for image in source] == [("x/1", PNG)]
    assert reasons(source) == {
        "x/1.seg.png": "is not the image of the sample `x/1`",
        "x/1.png": "is not the image of the sample `x/1` but `x/1.jpg`",
    }


@pytest.mark.parametrize("has_labels", [True, False])
def test_dots_in_names_make_no_sample_of_different_images(has_labels: bool, tmp_path: Path) -> None:
    members = [(f"photo.{i}.png", PNG) for i in range(4)]
    labels = [(f"photo.{i}.cls", [b"cat", b"dog"][i % 2]) for i in range(4)]
    source = webdataset(make_tar(tmp_path / "x.tar", members + labels * has_labels))
    found = read(source)
    assert list(found) == [f"x/photo.{i}" for i in range(4)] and source.problems == []
    assert list(found.values()) == (["cat", "dog"] * 2 if has_labels else ["all"] * 4)


def test_members_of_a_sample_may_lie_apart(tmp_path: Path) -> None:
    images = [(f"{i}.png", PNG) for i in range(4)]
    labels = [(f"{i}.cls", b"%d" % (i % 2)) for i in range(5)]
    between = [("._0.png", b"\0\5")]
    source = webdataset(make_tar(tmp_path / "x.tar", images + between + labels))
    assert list(read(source).values()) == ["0", "1", "0", "1"]
    assert reasons(source) == {"x/4.cls": "is the label of no image"}
    assert [one.key for one in source.passed_over] == ["x/._0.png"]


def test_a_single_image_keeps_the_name_of_its_sample(tmp_path: Path) -> None:
    members = [("1.image.png", PNG), ("1.json", b'{"label": 1}'), ("1.txt", b"a caption")]
    source = webdataset(make_tar(tmp_path / "x.tar", members))
    assert read(source) == {"x/1": "1"}
    assert [one.key for one in source.passed_over] == ["x/1.txt"]
