"""Files that are either whole or not there: atomic writes, digests, manifests."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scalegan.errors import CheckpointError, DataError

MANIFEST = "manifest.json"
MOST_TEXT_BYTES = 64 * 2**20


class Faults:
    """What happens at the named moments of saving: nothing, unless a test puts a fault there."""

    strike: Callable[[str], None] | None = None


def fault_point(name: str) -> None:
    """A moment at which a process may be killed, or a disk may refuse."""
    if Faults.strike is not None:
        Faults.strike(name)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that gets its name only once it is complete and on the disk.

    A manifest of SHA-256 digests is written last. If anything fails, nothing is left behind; a
    folder that had the name before is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        fault_point("draft made")
        yield draft
        fault_point("files written")
        files = sorted(file for file in draft.iterdir() if file.is_file())
        write_json(draft / MANIFEST, {file.name: digest(file) for file in files})
        fault_point("manifest written")
        for file in [*files, draft / MANIFEST, draft]:
            _sync(file)
        fault_point("files flushed")
        if path.exists():
            remove_folder(path)
        draft.rename(path)
        fault_point("renamed")
        _sync(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Take a folder's name away, then its files: half of it never stands under the name."""
    gone = path.with_name(f".{path.name}.{os.getpid()}.gone.draft")
    path.rename(gone)
    fault_point("name taken away")
    shutil.rmtree(gone)


def free_bytes(path: Path) -> int:
    """Bytes that are free on the disk of a file or folder, which need not exist yet."""
    there = next(parent for parent in [path, *path.absolute().parents] if parent.exists())
    return shutil.disk_usage(there).free


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write that gets its name only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def write_durable(path: Path, text: str) -> None:
    """Write a small file that is whole and on the disk when this returns."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
    _sync(path.parent)


@contextmanager
def locked(folder: Path, purpose: str) -> Iterator[None]:
    """Keep other processes out of a folder for as long as this one is alive.

    Raises:
        DataError: if another one is in it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataError(
            f"another process is {purpose} `{folder}`", "wait for it, or end it and start again"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def clear_drafts(folder: Path) -> None:
    """Remove what a killed process left unfinished."""
    for draft in folder.glob(".*.draft*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `atomic_folder` wrote, or None.

    File formats do not notice a flipped bit; digests do.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        ours = {file.name for file in folder.iterdir() if file.suffix in (".safetensors", ".json")}
        if unlisted := ours - {MANIFEST, *manifest.keys()}:
            return f"`{min(unlisted)}` is not in `{MANIFEST}`"
        for name, expected in manifest.items():
            if Path(name).name != name or not stat.S_ISREG((folder / name).lstat().st_mode):
                return f"`{name}` is not a file of this folder"
            if digest(folder / name) != expected:
                return f"`{name}` does not match its digest"
    except FileNotFoundError as error:
        return f"`{Path(error.filename).name}` is missing"
    except (ValueError, AttributeError, OSError) as error:
        return f"`{MANIFEST}` cannot be read: {error}"
    return None


def read_checked(folder: Path, name: str, version: int, what: str, hint: str) -> dict[str, Any]:
    """The table in a JSON file of a folder that `atomic_folder` wrote.

    Args:
        version: the `format` that the table must have.
        what: the folder is, for messages.
        hint: what to do about a damaged one.

    Raises:
        CheckpointError: if the folder is damaged, or the table unreadable or of another format.
    """
    if problem := damage(folder):
        raise CheckpointError(f"{what} `{folder}` is damaged: {problem}", hint)
    try:
        table = read_json(folder / name)
    except ValueError as error:
        raise CheckpointError(f"`{folder / name}` cannot be read: {str(error)[:200]}") from None
    found = table.get("format") if isinstance(table, dict) else None
    if found != version:
        raise CheckpointError(
            f"{what} `{folder}` has format {str(found)[:40]}; this version reads {version}"
        )
    return dict(table)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors from any device as safetensors.

    Raises:
        OSError: if the disk is full or refuses.
    """
    try:
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(
            errno.EIO, str(error).removeprefix("Error while serializing: "), path
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: if it is not one.
        FileNotFoundError: if it is not there.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"`{path}` is not a readable safetensors file: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON by `write_durable`."""
    write_durable(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a file.

    Raises:
        ValueError: if it is not JSON, or far larger than what this package writes.
        FileNotFoundError: if it is not there.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_text(path: Path) -> str:
    """Read a file of a size that a person or this package writes; never a device or a pipe.

    Raises:
        ValueError: if it is none, is too large or not text.
        FileNotFoundError: if it is not there.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_TEXT_BYTES:
        raise ValueError(f"it is no file of at most {MOST_TEXT_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
