"""Training and checking work on every kind of source, through the command line's own path."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from scalegan.cli import main
from scalegan.data.memory import LabeledImages, read_into_memory
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from tests.conftest import PARITY
from tests.support.hostile import encode, noise, write
from tests.support.runs import TINY
from tests.unit.data.test_listings import make_tar

DATA = PARITY.parent / "data"
IMAGES = [noise(i, 8, 8) for i in range(40)]
LABELS = [i % 2 for i in range(40)]
NAMES = ["cat", "dog"]
FILES = {f"{i:02d}.png": encode(image) for i, image in enumerate(IMAGES)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same forty images in every kind of source."""
    root = tmp_path_factory.mktemp("sources")
    pairs = list(zip(FILES.items(), LABELS, strict=True))
    for (name, data), label in pairs:
        write(root / "folder" / NAMES[label], name, data)
        write(root / "flat", name, data)
    rows = [f"{name},{NAMES[label]}" for (name, _), label in pairs]
    (root / "flat" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for (name, data), _ in pairs:
            archive.writestr(name, data)
        labels = {"labels": [[name, label] for (name, _), label in pairs], "class_names": NAMES}
        archive.writestr("dataset.json", json.dumps(labels))
    (root / "tar").mkdir()
    (root / "tar" / "class_names.txt").write_text("cat\ndog\n")
    samples = [(name, data) for (file, data), label in pairs
               for name, data in ((file, data), (f"{file[:2]}.cls", b"%d" % label))]  # fmt: skip
    make_tar(root / "tar" / "0.tar", samples[:40])
    make_tar(root / "tar" / "1.tar", samples[40:])
    np.savez(root / "all.npz", arr_0=np.stack(IMAGES), arr_1=np.array(LABELS))
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return root
    images = [{"bytes": data, "path": name} for (name, data), _ in pairs]
    table = pyarrow.table({"image": images, "label": LABELS})
    table = table.replace_schema_metadata({"class_names": json.dumps(NAMES)})
    parquet.write_table(table, root / "all.parquet")
    return root


KINDS = ["folder", "flat", "flat/labels.csv", "all.zip", "tar", "all.npz", "all.parquet"]


def read(root: Path, kind: str) -> LabeledImages:
    if kind == "all.parquet":
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    return read_into_memory(open_source(str(root / kind), SOURCES))


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_holds_the_same(kind: str, root: Path) -> None:
    images = read(root, kind)
    # A folder per class comes class by class.
    order = sorted(range(40), key=lambda i: (LABELS[i], i)) if kind == "folder" else list(range(40))
    assert images.labels.tolist() == [LABELS[i] for i in order]
    expected = torch.from_numpy(np.stack([IMAGES[i] for i in order])).permute(0, 3, 1, 2)
    assert torch.equal(images.images, expected)
    assert images.class_names == (["0", "1"] if kind == "all.npz" else NAMES)
    assert images.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_trains_and_is_checked(
    kind: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(root, kind)
    run = tmp_path / "run"
    arguments = ["--run", str(run), "--data.source", str(root / kind), "--data.size", "4"]
    exits_well("train", "digits", *arguments, *TINY, "--train.duration", "1 step")
    assert "40 images as samples of 3x4x4, in 2 classes" in capsys.readouterr().out
    exits_well("check", str(root / kind), "--size", "4", "--strict", "--workers", "0")
    assert "40 images can be used, 0 images or labels cannot" in capsys.readouterr().out


def exits_well(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs real images in {DATA}")
def test_photos_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    exits_well("check", str(DATA / "imagenet_sample"), "--size", "256", "--strict")
    out = capsys.readouterr().out
    assert "200 images can be used, 0 images or labels cannot" in out
    assert "200 classes of 1 to 1 images" in out and "formats: JPEG (200)" in out


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs real images in {DATA}")
def test_photos_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data.source", str(DATA / "imagenet_sample"), "--data.size", "16"]
    arguments = ["--run", str(tmp_path / "run"), *source, *TINY, "--train.duration", "1 step"]
    exits_well("train", "digits", *arguments)
    assert "200 images as samples of 3x16x16, in 200 classes" in capsys.readouterr().out
