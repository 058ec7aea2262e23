"""Images in zip and tar archives, read member by member and never extracted."""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from os.path import splitext
from pathlib import Path, PurePosixPath
from typing import Any

from scalegan.data.folders import is_named_image, problem_of
from scalegan.data.images import BadImage, Problem, check_bytes
from scalegan.data.labels import LABEL_COLUMNS, Classes, parse_json_labels
from scalegan.data.sources import Source, SourceImage, escape, unique
from scalegan.errors import DataError

# What reading a damaged member raises, of either kind of archive.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
          NotImplementedError, ValueError)  # fmt: skip
MAX_LABEL_BYTES = 2**20


def zipped(where: str) -> Source:
    """Read a zip of images, as StyleGAN's `dataset_tool.py` makes it.

    Labels are in `dataset.json`: {"labels": [[file, number], ...]}, or null for one class. A zip
    without that file is read like a folder per class.

    Raises:
        DataError: if it is not a zip archive or its labels cannot be read.
    """
    path = Path(where)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`") from None
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"`{path}` is not a readable zip archive: {error}") from None
    members = [m for m in archive.infolist() if not m.is_dir() and _is_wanted(m.filename)]
    members.sort(key=lambda member: member.filename)
    problems: list[Problem] = []
    notes: list[str] = []
    labels, names = _zip_labels(archive, path, [member.filename for member in members])
    if written := [label for label in labels.values() if label is not None]:
        classes = Classes(written, names)
    else:
        notes.append(f"`{path}` has no labels: all images are one class")
        classes = Classes(names=["all"])
        labels = {member.filename: 0 for member in members}
    for name in sorted(labels.keys() - {member.filename for member in members}):
        reason = "has a label but is not in the archive"
        problems.append(Problem(escape(name), reason, "cannot be read"))

    def read() -> Iterator[SourceImage]:
        for member in members:
            try:
                label = classes.index(labels.get(member.filename))
                check_bytes(member.file_size)
                data = archive.read(member)
            except (BadImage, *DAMAGE) as error:
                problems.append(problem_of(member.filename, error))
            else:
                yield SourceImage(escape(member.filename), data, label)

    return Source(lambda: unique(read(), problems), classes.names, len(members), problems, notes)


def _zip_labels(
    archive: zipfile.ZipFile, path: Path, members: list[str]
) -> tuple[dict[str, Any], list[str] | None]:
    """Label as written by member name, and class names if they are given."""
    if "dataset.json" in archive.namelist():
        try:
            text = archive.read("dataset.json").decode("utf-8", "replace")
        except DAMAGE as error:
            raise DataError(f"`dataset.json` in `{path}` cannot be read: {error}") from None
        written = parse_json_labels(text, path / "dataset.json")
        return dict(written.labels), written.class_names
    tops = {PurePosixPath(name).parts[0] for name in members}
    is_wrapped = len(tops) == 1 and all(len(PurePosixPath(name).parts) > 2 for name in members)
    depth = int(is_wrapped)  # one folder around the class folders
    folders = {name: PurePosixPath(name).parts[depth:-1] for name in members}
    classes = sorted({parts[0] for parts in folders.values() if parts})
    labels = {name: classes.index(parts[0]) if parts else None for name, parts in folders.items()}
    return labels, [escape(name) for name in classes] or None


def webdataset(where: str) -> Source:
    """Read WebDataset tar shards, where members of one base name are a sample.

    A sample's image ends in .jpg, .png and so on; its label is in `.cls` (a number or name) or in
    `.json` under `label`, `cls` or the like. A file `class_names.txt` or `classnames.txt` beside
    the shards names the classes, one a line; without it every shard is read twice, for the labels
    decide what the classes are.

    Args:
        where: one .tar (also .tar.gz), or a folder of them.

    Raises:
        DataError: if there is no shard or no label.
    """
    path = Path(where)
    folder = path if path.is_dir() else path.parent
    shards = [path]
    if path.is_dir():
        shards = sorted([*path.glob("*.tar"), *path.glob("*.tar.gz"), *path.glob("*.tgz")])
    if not shards or not shards[0].is_file():
        raise DataError(
            f"there are no tar files at `{path}`", "expected NAME.tar or a folder of them"
        )
    names = None
    for file in (folder / "class_names.txt", folder / "classnames.txt"):
        if file.is_file():
            names = [escape(n) for n in file.read_text(encoding="utf-8").splitlines() if n.strip()]
    problems: list[Problem] = []
    found: list[Problem] = []  # of the first reading: the second meets them again
    labels: list[Any] = []
    for shard in [] if names else shards:
        labels += [label for _, _, label in _samples(shard, found, with_images=False)]
    if not labels and found:
        raise DataError(f"`{path}` cannot be read: {found[0].reason}")
    notes = []
    has_labels = bool(names) or any(label is not None for label in labels)
    if not has_labels:
        notes.append(f"`{path}` has no labels: all images are one class")
        names = ["all"]
    classes = Classes(labels, names)

    def read() -> Iterator[SourceImage]:
        for shard in shards:
            for key, image, written in _samples(shard, problems, with_images=True):
                try:
                    label = classes.index(written if has_labels else 0)
                except BadImage as error:
                    problems.append(error.problem(key))
                else:
                    yield SourceImage(key, image, label)

    count = len(labels) or None
    return Source(lambda: unique(read(), problems), classes.names, count, problems, notes)


def _samples(
    shard: Path, problems: list[Problem], with_images: bool
) -> Iterator[tuple[str, bytes, Any]]:
    """(key, image, label as written) of samples with an image; damage ends this shard alone."""
    key, image, label = "", None, None
    try:
        with tarfile.open(shard, "r:*") as archive:
            for member in archive:
                name, suffix = _split(member.name)
                if f"{shard.stem}/{escape(name)}" != key:
                    if image is not None:
                        yield key, image, label
                    key, image, label = f"{shard.stem}/{escape(name)}", None, None
                if member.isdir() or not _is_wanted(member.name, (".cls", ".json")):
                    continue
                if not member.isreg():
                    reason = f"`{escape(member.name)}` is not a regular file"
                    problems.append(Problem(key, reason, "not a file"))
                elif is_named_image(member.name):
                    try:
                        check_bytes(member.size)
                        image = _read(archive, member) if with_images else b""
                    except BadImage as error:
                        problems.append(error.problem(key))
                elif member.size <= MAX_LABEL_BYTES:
                    found = _label(_read(archive, member), suffix)
                    label = found if label is None else label  # of several, the first
            end = archive.offset
        if image is not None:
            yield key, image, label
        if not _has_end_mark(shard, end):
            raise EOFError("no end mark follows; it may be cut short")
    except DAMAGE as error:
        reason = f"cannot be read beyond `{key}`: {error}" if key else f"cannot be read: {error}"
        problems.append(Problem(shard.name, reason, "cannot be read"))


def _has_end_mark(shard: Path, end: int) -> bool:
    """Whether a block of zeros follows the last member; `tarfile` takes rubbish for an end too."""
    if shard.suffix.lower() != ".tar":
        return True  # compressed: cut short it does not decompress
    with shard.open("rb") as file:
        file.seek(end)
        return file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise EOFError("it ends in the middle of a file")
    return data


def _label(data: bytes, suffix: str) -> Any:
    """The label in a member; None if there is none."""
    text = data.decode("utf-8", "replace")
    if suffix.endswith(".cls"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [value.get(name) for name in LABEL_COLUMNS] if isinstance(value, dict) else []
    return next((found for found in values if found is not None), None)


def _split(name: str) -> tuple[str, str]:
    """(base name, suffixes): WebDataset cuts at the first dot after the last slash."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    base, dot, rest = file.partition(".")
    return folder + slash + base, dot + rest.lower()


def _is_wanted(name: str, more: tuple[str, ...] = ()) -> bool:
    parts = PurePosixPath(name).parts
    is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    is_named = is_named_image(name) or splitext(name)[1].lower() in more
    return is_named and not is_hidden
