"""What lies in a folder, a zip archive or tar shards: a list of files, each with a way to read it.

Archives are read member by member and never extracted. What a name means is not asked here.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scalegan.data.images import BadImage, Problem, check_bytes
from scalegan.data.names import escape, hidden_part
from scalegan.data.sources import DAMAGE, problem_of
from scalegan.errors import DataError


class File(NamedTuple):
    """A file of a source before it is read."""

    name: str
    """Relative to the folder or archive, with slashes; folders and what is hidden end in one."""
    size: int
    read: Callable[[int], bytes]
    """Reads its first bytes, or all of them if the number is -1."""
    shard: str = ""
    """Name of the tar shard, with a slash; empty of other sources."""

    @property
    def whole(self) -> str:
        """Its name with that of its shard, which is unique."""
        return self.shard + self.name


def read_all(file: File) -> bytes:
    """Read a whole file, which raises `BadImage` if it is too large, `EOFError` if cut short."""
    check_bytes(file.size)
    data = file.read(-1)
    if len(data) < file.size:
        raise EOFError("it ends in the middle of a file")
    return data


def list_folder(root: Path, problems: list[Problem]) -> Iterator[File]:
    """List all files below a folder in sorted order; links never lead in circles.

    A link to a folder inside the root is not followed, for its files come anyway; a folder outside
    is listed once. What is neither a file nor a folder becomes a problem.
    """
    inside = os.path.realpath(root)
    outside: set[str] = set()

    def is_folder(entry: os.DirEntry[str], mode: int) -> bool:
        if stat.S_ISREG(mode):
            return False
        if not stat.S_ISDIR(mode):
            raise BadImage("is not a regular file", "not a file")
        real = os.path.realpath(entry.path)
        # Inside the root, or above it, which comes to the same.
        if os.path.commonpath([real, inside]) in (real, inside):
            is_new = not entry.is_symlink()
        else:
            is_new = real not in outside
            outside.add(real)
        if not is_new:
            raise BadImage("a link to a folder that is part of the source already", "not a file")
        return True

    def below(path: str, prefix: str) -> Iterator[File]:
        try:
            found = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            problems.append(problem_of(escape(prefix or path), error))
            return
        for entry in found:
            name = prefix + entry.name
            if hidden_part(entry.name):
                yield File(name, 0, partial(read_path, entry.path))
                continue
            try:
                status = entry.stat()
                if is_folder(entry, status.st_mode):
                    yield File(f"{name}/", 0, partial(read_path, entry.path))
                    yield from below(entry.path, f"{name}/")
                else:
                    yield File(name, status.st_size, partial(read_path, entry.path))
            except (BadImage, OSError) as error:
                problems.append(problem_of(escape(name), error))

    yield from below(str(root), "")


def read_path(path: str, count: int) -> bytes:
    """Read a file's first bytes, or all; a pipe in its place would be waited for without end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise BadImage("is not a regular file", "not a file")
    with open(path, "rb") as file:
        return file.read(count)


def list_zip(path: Path, encoding: str = "") -> Iterator[File]:
    """List the members of a zip archive, sorted by name.

    A name that is not marked as UTF-8 is UTF-8 if it can be, as macOS writes it, else in the
    encoding that is given, else in the format's own code page 437. Backslashes are slashes where no
    name has a slash.

    Raises:
        DataError: if it is not a zip archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`") from None
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"`{path}` is not a readable zip archive: {error}") from None

    def read(member: zipfile.ZipInfo, count: int) -> bytes:
        if count < 0:
            return archive.read(member)
        with archive.open(member) as file:
            return file.read(count)

    def name_of(member: zipfile.ZipInfo) -> str:
        if member.flag_bits & 0x800:
            return member.filename
        for kind in ("utf-8", *([encoding] if encoding else [])):
            try:
                return member.filename.encode("cp437").decode(kind)
            except (UnicodeError, LookupError):
                continue
        return member.filename

    members = [(name_of(member), member) for member in archive.infolist()]
    if not any("/" in name for name, _ in members):
        members = [(name.replace("\\", "/"), member) for name, member in members]
    for name, member in sorted(members, key=lambda pair: pair[0]):
        yield File(name.removeprefix("./"), member.file_size, partial(read, member))


def list_tars(shards: list[Path], problems: list[Problem]) -> Iterator[File]:
    """List the members of tar shards in their order; damage ends a shard, not the others.

    Compressed shards are decompressed once to be listed and once to be read.
    """
    opened = _OpenedShard()

    for shard in shards:
        last = ""
        prefix = f"{shard.stem}/"
        try:
            with tarfile.open(shard, "r:*") as archive:
                opened.use(shard, archive)
                for member in archive:
                    name = member.name.removeprefix("./")
                    last = prefix + name
                    if member.isdir():
                        yield File(f"{name}/", 0, partial(opened.read, shard, member), prefix)
                    elif member.isreg():
                        yield File(name, member.size, partial(opened.read, shard, member), prefix)
                    elif not hidden_part(name):
                        reason = f"`{escape(name)}` is not a regular file"
                        problems.append(Problem(escape(last), reason, "not a file"))
                end = archive.offset
            opened.close()
            if not _has_end_mark(shard, end):
                raise EOFError("no end mark follows; it may be cut short")
        except DAMAGE as error:
            opened.close()
            where = f" beyond `{escape(last)}`" if last else ""
            reason = f"cannot be read{where}: {error}"
            problems.append(Problem(escape(shard.name), reason, "cannot be read"))


class _OpenedShard:
    """The tar shard that is listed, or was read last: compressed ones are read in one sweep."""

    def __init__(self) -> None:
        self.shard: Path | None = None
        self.archive: tarfile.TarFile | None = None

    def use(self, shard: Path, archive: tarfile.TarFile) -> None:
        """Read from this archive until another is needed or it is closed."""
        self.close()
        self.shard, self.archive = shard, archive

    def read(self, shard: Path, member: tarfile.TarInfo, count: int) -> bytes:
        """Read the first bytes of a member, or all of them."""
        if self.archive is None or self.shard != shard:
            self.use(shard, tarfile.open(shard, "r:*"))  # noqa: SIM115
        file = self.archive.extractfile(member) if self.archive else None
        return file.read(count) if file else b""

    def close(self) -> None:
        """Close it; the next reading opens it again."""
        if self.archive is not None:
            self.archive.close()
        self.archive = None

    __del__ = close


def _has_end_mark(shard: Path, end: int) -> bool:
    """Whether a block of zeros follows the last member; `tarfile` takes rubbish for an end too."""
    with shard.open("rb") as file:
        if file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
            return True  # compressed: cut short it does not decompress
        file.seek(end)
        return file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
