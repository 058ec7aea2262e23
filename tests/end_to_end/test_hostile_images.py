"""A thousand good and three hundred hostile images: all of these found, none of those blamed."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scalegan.data.memory import read_into_memory
from scalegan.data.names import escape
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from tests.support import hostile
from tests.support.runs import TINY, scalegan

NUM_GOOD, NUM_ODD, NUM_BAD, NUM_LINKS = 980, 20, 292, 8
SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """980 good, 20 odd and 292 bad images in three classes, and 8 traps that are no files."""
    root = tmp_path_factory.mktemp("hostile") / "images"
    good = ("good", hostile.good, NUM_GOOD)
    odd, bad = ("odd", hostile.odd, NUM_ODD), ("bad", hostile.bad, NUM_BAD)
    for kind, make, count in (good, odd, bad):
        for seed in range(count):
            below = root / f"class {seed % 3}" / (kind if seed % 2 else "deeper/still")
            name, data = make(seed)
            hostile.write(below, f"{kind} {name}" if kind != "good" else name, data)
    first = root / "class 0"
    (first / "loop").symlink_to(".", target_is_directory=True)
    (first / "up").symlink_to("../..", target_is_directory=True)
    (first / "twin").symlink_to("../class 1", target_is_directory=True)
    (first / "self.png").symlink_to("self.png")
    (first / "nowhere.png").symlink_to("missing.png")
    (root / "class 3").symlink_to("class 0", target_is_directory=True)
    os.mkfifo(first / "pipe.png")
    hostile.write(root, "loose.png", hostile.encode(hostile.noise(0)))
    # Neither blamed nor read: no images by name and content.
    hostile.write(root, "README.md", b"about")
    hostile.write(first, "Thumbs.db", b"\0" * 50)
    hostile.write(first, ".hidden.png", b"")
    return root


def expected_bad(folder: Path) -> set[str]:
    files = {escape(str(p.relative_to(folder))) for p in folder.glob("class [012]/**/bad *")}
    traps = {f"class 0/{n}" for n in ("loop", "up", "twin", "self.png", "nowhere.png", "pipe.png")}
    return files | traps | {"class 3", "loose.png"}


def listed(text: str, title: str) -> list[str]:
    """Keys below a title of the report, up to the next blank line."""
    lines = text.partition(f"{title}\n")[2].partition("\n\n")[0].splitlines()
    return [re.split(r"(?<=[a-zA-Z0-9]): ", line.strip(), maxsplit=1)[0] for line in lines]


def test_all_bad_ones_are_found_and_no_good_one_is_blamed(folder: Path) -> None:
    done = scalegan("check", str(folder), "--size", str(SIDE), "--workers", "0")
    bad, odd = listed(done.stdout, "left out:"), listed(done.stdout, "used, but odd:")
    assert len(bad) == NUM_BAD + NUM_LINKS == 300
    assert set(bad) == expected_bad(folder)
    assert len(odd) == NUM_ODD and all("odd " in key for key in odd)
    assert f"{NUM_GOOD + NUM_ODD:,} images can be used, 300 images or labels cannot" in done.stdout
    assert "1 files are no images by name and content" in done.stdout
    assert done.stderr == ""


def test_workers_find_the_same(folder: Path) -> None:
    alone, together = (
        scalegan("check", str(folder), "--size", str(SIDE), "--workers", workers).stdout
        for workers in ("0", "2")
    )
    free = r"has [\d,]+ MB free"  # others write to the disk too
    assert re.sub(free, "", alone) == re.sub(free, "", together)


def test_strict_makes_it_fatal(folder: Path) -> None:
    done = scalegan("check", str(folder), "--size", str(SIDE), "--strict", check=False)
    assert done.returncode == 2
    assert done.stderr == "error: 300 images or labels cannot be used (--strict)\n"


def test_nothing_good_is_lost(folder: Path) -> None:
    source = open_source(str(folder), SOURCES)
    images = read_into_memory(source, SIDE)
    assert len(images.images) == NUM_GOOD + NUM_ODD
    # seed % 3 is the class of good and odd ones alike
    expected = Counter(seed % 3 for n in (NUM_GOOD, NUM_ODD) for seed in range(n))
    assert Counter(images.labels.tolist()) == expected
    assert any(note.startswith("300 images or labels cannot be used") for note in images.notes)


def test_training_goes_on_without_the_bad_ones(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = scalegan(
        "train", "digits", "--run", str(run), "--data.source", str(folder),
        "--data.size", str(SIDE), *TINY, "--train.duration", "1 step",
    )  # fmt: skip
    assert "notice: 300 images or labels cannot be used and are left out" in done.stdout
    assert "1,000 images as samples of 3x16x16, in 3 classes" in done.stdout


def test_a_pipe_that_closes_early_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m scalegan check '{folder}' --size {SIDE} | head -n 2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("left out:\n") and "Traceback" not in done.stderr
