"""Images that lie in folders: a folder per class, or one folder with a file of labels."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scalegan.data.images import MAX_BYTES, SUFFIXES, is_image
from scalegan.data.labels import BadLabel, Classes, read_labels
from scalegan.data.sources import DEFAULT_LABELS, Item, Problem, Source, escape
from scalegan.errors import DataError

# Images by their names, of kinds that we do not read: said, not passed over.
UNREAD = {".heic", ".heif", ".svg", ".psd", ".eps", ".tga", ".exr", ".hdr", ".dng", ".cr2", ".nef",
          ".arw", ".raw", ".jxl", ".ico"}  # fmt: skip

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


class File(NamedTuple):
    """A regular file below a root."""

    name: str
    """Relative to the root, with slashes."""
    path: str
    label: int


def folder(where: str) -> Source:
    """A folder per class: its name is the class, everything below it is of that class.

    Classes are in sorted order. Without class folders all images are one class. Links to
    images, and to folders outside, are followed. Hidden files and those that are images neither
    by name nor by content are passed over.

    Raises:
        DataError: if it is not a folder or holds nothing.
    """
    root = require_folder(where)
    problems: list[Problem] = []
    notes: list[str] = []
    walk = Walk(root, problems)
    top = list(walk.entries(str(root)))
    classes = [entry for entry in top if entry.is_dir]
    loose = [entry for entry in top if not entry.is_dir]
    files: list[File] = []
    if classes:
        for label, entry in enumerate(classes):
            files += [File(f.name, f.path, label) for f in walk.files(entry)]
        for entry in loose:
            if is_named_image(entry.name):
                problems.append(Problem(escape(entry.name), "lies in no class folder"))
    else:
        files = [File(entry.name, entry.path, 0) for entry in loose]
        notes.append(f"`{root}` has no class folders: all images are one class")
    if classes and all(entry.name.lower() in SPLITS for entry in classes):
        notes.append(
            f"the folders of `{root}` are named like splits, not classes: name one of them"
        )
    names = [escape(entry.name) for entry in classes] or [escape(root.absolute().name) or "all"]
    return Source(_read(files, problems, notes), names, len(files), problems, notes)


def flat(where: str) -> Source:
    """Images in one folder (or below it) and a file that names their classes.

    Args:
        where: the file of labels (see `labels.read_labels`), or a folder that holds one called
            `labels.csv`, `labels.json`, `metadata.jsonl`, `dataset.json` or the like.

    Raises:
        DataError: if there are no labels to read.
    """
    path = Path(where)
    if path.is_dir():
        found = [path / name for name in DEFAULT_LABELS if (path / name).is_file()]
        if not found:
            raise DataError(
                f"`{path}` holds no file of labels", f"expected one of {', '.join(DEFAULT_LABELS)}"
            )
        path = found[0]
    labels, names = read_labels(path)
    root, problems, notes = path.parent, list[Problem](), list[str]()
    try:
        classes = Classes((label for _, label in labels), names)
    except DataError as error:
        raise DataError(f"`{path}`: {error}", error.hint) from None
    files: list[File] = []
    seen: set[str] = set()
    for name, label in labels:
        relative = os.path.normpath(name) if name else name
        if "\0" in name or not name:
            problems.append(Problem(escape(name) or "(no name)", "is not the name of a file"))
        elif relative in seen:
            problems.append(Problem(escape(name), "is listed twice; the first one is kept"))
        else:
            try:
                files.append(File(relative, str(root / name), classes.index(label)))
            except BadLabel as error:
                problems.append(Problem(escape(name), str(error)))
        seen.add(relative)
    for entry in Walk(root, problems).files():
        if is_named_image(entry.name) and os.path.normpath(entry.name) not in seen:
            problems.append(Problem(escape(entry.name), f"has no label in `{path.name}`"))
    return Source(_read(files, problems, notes), classes.names, len(files), problems, notes)


def require_folder(where: str) -> Path:
    root = Path(where)
    if not root.is_dir():
        raise DataError(f"there is no folder `{where}`")
    return root


def is_named_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or suffix in UNREAD


class Entry(NamedTuple):
    """A file or folder below a root."""

    name: str
    path: str
    is_dir: bool


class Walk:
    """All regular files below a root in sorted order; links never lead in circles.

    A link to a folder inside the root is not followed, for its files come anyway; a folder outside
    is walked once.
    """

    def __init__(self, root: Path, problems: list[Problem]) -> None:
        self.root = root
        self.inside = os.path.realpath(root)
        self.outside: set[str] = set()
        self.problems = problems

    def files(self, below: Entry | None = None) -> Iterator[Entry]:
        """Files below the root, or below one of its folders."""
        start = below or Entry("", str(self.root), True)
        for entry in self.entries(start.path, f"{start.name}/" if start.name else ""):
            if entry.is_dir:
                yield from self.files(entry)
            else:
                yield entry

    def entries(self, path: str, prefix: str = "") -> Iterator[Entry]:
        """What a folder holds; what is neither a file nor a folder becomes a problem."""
        try:
            found = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append(Problem(escape(prefix or path), _reason(error)))
            return
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = prefix + entry.name
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                self.problems.append(Problem(escape(name), _reason(error)))
                continue
            if stat.S_ISREG(mode):
                yield Entry(name, entry.path, False)
            elif not stat.S_ISDIR(mode):
                self.problems.append(Problem(escape(name), "is not a regular file"))
            elif self._is_new(entry.path, entry.is_symlink()):
                yield Entry(name, entry.path, True)
            else:
                reason = "a link to a folder that is part of the source already"
                self.problems.append(Problem(escape(name), reason))

    def _is_new(self, path: str, is_link: bool) -> bool:
        real = os.path.realpath(path)
        is_inside = os.path.commonpath([real, self.inside]) in (real, self.inside)
        if is_inside:  # or above the root, which comes to the same
            return not is_link
        is_new = real not in self.outside
        self.outside.add(real)
        return is_new


def _read(files: list[File], problems: list[Problem], notes: list[str]) -> Iterator[Item]:
    """Read file by file; what cannot be read becomes a problem."""
    passed_over: list[str] = []
    for name, path, label in files:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in UNREAD:
            problems.append(Problem(escape(name), f"images of kind {suffix} are not read"))
            continue
        try:
            # A pipe in the place of a image would be waited for without end.
            if not stat.S_ISREG((status := os.stat(path)).st_mode):
                raise OSError("is not a regular file")
            if status.st_size > MAX_BYTES:
                raise OSError(f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            with open(path, "rb") as file:
                if suffix not in SUFFIXES and not is_image(file.read(16)):
                    passed_over.append(name)
                    continue
                file.seek(0)
                data = file.read()
        except (OSError, ValueError) as error:
            problems.append(Problem(escape(name), _reason(error)))
            continue
        yield Item(escape(name), data, label)
    if passed_over:
        notes.append(
            f"{len(passed_over):,} files are no images by name and content and were passed over, "
            f"such as `{escape(passed_over[0])}`"
        )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text if text.startswith(("is ", "has ")) else f"cannot be read: {text}"
