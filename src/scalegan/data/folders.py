"""Images that lie in folders: a folder per class, or one folder with a file of labels."""

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scalegan.data.images import (
    SUFFIXES,
    BadImage,
    Problem,
    check_bytes,
    is_image,
)
from scalegan.data.labels import Classes, read_label_file
from scalegan.data.sources import DEFAULT_LABELS, Source, SourceImage, escape
from scalegan.errors import DataError

# Images by their names, of kinds that are not read: listed as problems, not passed over.
UNREAD = {".heic", ".heif", ".svg", ".psd", ".eps", ".tga", ".exr", ".hdr", ".dng", ".cr2", ".nef",
          ".arw", ".raw", ".jxl", ".ico"}  # fmt: skip

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


class File(NamedTuple):
    """A file that is read as an image of a class."""

    name: str
    """Relative to the root, with slashes."""
    path: str
    label: int


def folder(where: str) -> Source:
    """Read a folder per class: its name is the class, everything below it is of that class.

    Classes are in sorted order. Without class folders all images are one class. Links to
    images, and to folders outside, are followed. Hidden files and those that are images neither
    by name nor by content are passed over.

    Raises:
        DataError: if it is not a folder or holds nothing.
    """
    root = Path(where)
    if not root.is_dir():
        raise DataError(f"there is no folder `{where}`")
    problems, notes = list[Problem](), list[str]()
    walk = Walk(root, problems)
    top = list(walk.entries(str(root)))
    classes = [entry for entry in top if entry.is_dir]
    loose = [entry for entry in top if not entry.is_dir]
    if classes:
        files = [File(f.name, f.path, i) for i, d in enumerate(classes) for f in walk.files(d)]
        lost = [escape(entry.name) for entry in loose if is_named_image(entry.name)]
        problems += [Problem(key, "lies in no class folder", "no usable label") for key in lost]
    else:
        files = [File(entry.name, entry.path, 0) for entry in loose]
        notes.append(f"`{root}` has no class folders: all images are one class")
    if classes and all(entry.name.lower() in SPLITS for entry in classes):
        notes.append(
            f"the folders of `{root}` are named like splits, not classes: name one of them"
        )
    names = [escape(entry.name) for entry in classes] or [escape(root.absolute().name) or "all"]
    read = partial(_read, files, problems, notes)
    return Source(read, names, len(files), problems, notes)


def flat(where: str) -> Source:
    """Read images in one folder (or below it) and a file that names their classes.

    Args:
        where: the file of labels (see `labels.read_label_file`), or a folder that holds one called
            `labels.csv`, `labels.json`, `metadata.jsonl`, `dataset.json` or the like.

    Raises:
        DataError: if there are no labels to read.
    """
    path = Path(where)
    if path.is_dir():
        found = [path / name for name in DEFAULT_LABELS if (path / name).is_file()]
        if not found:
            hint = f"expected one of {', '.join(DEFAULT_LABELS)}"
            raise DataError(f"`{path}` holds no file of labels", hint)
        path = found[0]
    labels, names = read_label_file(path)
    root, problems, notes = path.parent, list[Problem](), list[str]()
    try:
        classes = Classes((label for _, label in labels), names)
    except DataError as error:
        raise DataError(f"`{path}`: {error}", error.hint) from None
    files: list[File] = []
    seen: set[str] = set()
    for name, label in labels:
        relative = os.path.normpath(name) if name else name
        key = escape(name) or "(no name)"
        if "\0" in name or not name:
            problems.append(Problem(key, "is not the name of a file", "not a file"))
        elif relative in seen:
            problems.append(Problem(key, "is listed twice; the first one is kept", "used twice"))
        else:
            try:
                files.append(File(relative, str(root / name), classes.index(label)))
            except BadImage as error:
                problems.append(error.problem(key))
        seen.add(relative)
    for entry in Walk(root, problems).files():
        if is_named_image(entry.name) and os.path.normpath(entry.name) not in seen:
            reason = f"has no label in `{path.name}`"
            problems.append(Problem(escape(entry.name), reason, "no usable label"))
    read = partial(_read, files, problems, notes)
    return Source(read, classes.names, len(files), problems, notes)


def is_named_image(name: str) -> bool:
    """Whether a name ends like that of an image, also of a kind that is not read."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or suffix in UNREAD


def problem_of(name: str, error: Exception) -> Problem:
    """Tell by an error of reading why the file of this name cannot be used."""
    if isinstance(error, BadImage):
        return error.problem(escape(name))
    reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return Problem(escape(name), reason, "cannot be read")


class Entry(NamedTuple):
    """A file or folder below a root."""

    name: str
    path: str
    is_dir: bool


class Walk:
    """Walks all regular files below a root in sorted order; links never lead in circles.

    A link to a folder inside the root is not followed, for its files come anyway; a folder outside
    is walked once.
    """

    def __init__(self, root: Path, problems: list[Problem]) -> None:
        self.root = root
        self.inside = os.path.realpath(root)
        self.outside: set[str] = set()
        self.problems = problems

    def files(self, below: Entry | None = None) -> Iterator[Entry]:
        """Yield the files below the root, or below one of its folders."""
        start = below or Entry("", str(self.root), True)
        for entry in self.entries(start.path, f"{start.name}/" if start.name else ""):
            if entry.is_dir:
                yield from self.files(entry)
            else:
                yield entry

    def entries(self, path: str, prefix: str = "") -> Iterator[Entry]:
        """Yield what a folder holds; what is neither a file nor a folder becomes a problem."""
        try:
            found = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append(problem_of(prefix or path, error))
            return
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = prefix + entry.name
            try:
                is_dir = self._is_folder(entry)
            except (BadImage, OSError) as error:
                self.problems.append(problem_of(name, error))
            else:
                yield Entry(name, entry.path, is_dir)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        mode = entry.stat().st_mode
        if stat.S_ISREG(mode):
            return False
        if not stat.S_ISDIR(mode):
            raise BadImage("is not a regular file", "not a file")
        real = os.path.realpath(entry.path)
        # Inside the root, or above it, which comes to the same.
        if os.path.commonpath([real, self.inside]) in (real, self.inside):
            is_new = not entry.is_symlink()
        else:
            is_new = real not in self.outside
            self.outside.add(real)
        if not is_new:
            raise BadImage("a link to a folder that is part of the source already", "not a file")
        return True


def _read(files: list[File], problems: list[Problem], notes: list[str]) -> Iterator[SourceImage]:
    """Read file by file; what cannot be read becomes a problem."""
    passed_over: list[str] = []
    for name, path, label in files:
        try:
            data = _read_file(path)
        except (BadImage, OSError, ValueError) as error:
            problems.append(problem_of(name, error))
        else:
            if data is None:
                passed_over.append(name)
            else:
                yield SourceImage(escape(name), data, label)
    if passed_over:
        notes.append(
            f"{len(passed_over):,} files are no images by name and content and were passed over, "
            f"such as `{escape(passed_over[0])}`"
        )


def _read_file(path: str) -> bytes | None:
    """An image's bytes; None if it is none by name and content."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in UNREAD:
        raise BadImage(f"images of kind {suffix} are not read", "not an image")
    # A pipe in the place of an image would be waited for without end.
    if not stat.S_ISREG((status := os.stat(path)).st_mode):
        raise BadImage("is not a regular file", "not a file")
    check_bytes(status.st_size)
    with open(path, "rb") as file:
        if suffix not in SUFFIXES and not is_image(file.read(16)):
            return None
        file.seek(0)
        return file.read()
