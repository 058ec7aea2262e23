"""What the names of a source's files say: hidden or not, image or not, which split, which class.

Every source asks here, so that a folder, an archive and a table read the same names alike.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from scalegan.data.images import SUFFIXES
from scalegan.errors import DataError

# Images by their names, of kinds that are not read: listed as problems, not passed over.
UNREAD = {".heic", ".heif", ".svg", ".psd", ".eps", ".tga", ".exr", ".hdr", ".dng", ".cr2", ".nef",
          ".arw", ".raw", ".jxl", ".ico"}  # fmt: skip
SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db",
          "ehthumbs.db", "desktop.ini", "icon\r"}  # fmt: skip
"""What macOS, Windows and Synology leave behind, without regard to case."""
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
# What is no image, and what to do about it.
OTHER_KINDS = {
    ".arrow": "an Arrow file, as `save_to_disk` writes it: `Dataset.to_parquet` makes a source",
    ".pkl": "a pickle, which may run programs and is not read",
    ".pickle": "a pickle, which may run programs and is not read",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".parquet", ".npz"),
                    "an archive or table among the files: name it itself, or a folder of such"),
    **dict.fromkeys((".mdb", ".h5", ".hdf5", ".mat", ".tfrecord", ".npy"),
                    "a container of a kind that is not read: write its images as files"),
}  # fmt: skip


def escape(name: str) -> str:
    """Write a file's name as one line of valid UTF-8; different names stay different.

    Control characters, line breaks, lone surrogates and the backslash become escapes of Python.
    """
    return re.sub(
        r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
        lambda match: match[0].encode("unicode_escape").decode("ascii"),
        name,
    )


def printable(path: str) -> str:
    """Write a path of any bytes as text that can be printed and stored; most stay as they are."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def composed(text: str) -> str:
    """Write accents as one character with their letter (Unicode NFC); macOS takes them apart."""
    return unicodedata.normalize("NFC", text)


def normal_form(name: str) -> str:
    """Reduce a path to what ways of writing it have in common: accents, slashes, dots, blanks."""
    return os.path.normpath(composed(name.strip().replace("\\", "/")))


def hidden_part(name: str) -> str:
    """The path of the hidden or system file or folder that a name lies in; empty if it is none."""
    parts = name.split("/")
    for i, part in enumerate(parts):
        if part.startswith(".") or part.lower() in SYSTEM:
            return "/".join(parts[: i + 1])
    return ""


def is_named_image(name: str) -> bool:
    """Whether a name ends like that of an image, also of a kind that is not read."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or suffix in UNREAD


def other_kind(name: str) -> str:
    """Say why a file that is no image is passed over."""
    suffix = os.path.splitext(name)[1].lower()
    return OTHER_KINDS.get(suffix, "no image by name and content")


def split_of(name: str, what: Literal["file", "folder"]) -> str:
    """The split that a name says, `train`, `val` or `test`; empty if none.

    A folder is called like its split; a file's name begins with it, as in `train-00000.parquet`.
    """
    word = name.lower()
    if what == "file":
        found = re.match(r"train|validation|valid|val|dev|testing|test", word)
        is_word = found and (found[0] == "train" or not word[found.end() :][:1].isalpha())
        word = found[0] if found and is_word else ""
    return SPLITS.get(word, "")


def choose_split(
    where: str, names: Sequence[str], splits: Sequence[str], wanted: str, notes: list[str]
) -> tuple[list[str], list[str]]:
    """Choose the files or folders of one split: the one that is wanted, else `train`.

    Args:
        where: what they lie in, for messages.
        splits: of each name; may be empty.
        wanted: a split, "none" for all, or empty.

    Returns:
        Those of the split, and the others; all of them where there are no splits.

    Raises:
        DataError: if that split is not there, or there are several and none is `train`.
    """
    there = sorted(set(splits) - {""})
    wanted = SPLITS.get(wanted, wanted)
    if wanted == "none" or not (wanted or "train" in there or len(there) > 1):
        return list(names), []
    if wanted and wanted not in there:
        found = ", ".join(there) or "none"
        raise DataError(f"`{where}` has no split `{wanted}`; it has {found}")
    if not wanted and "train" not in there:
        raise DataError(
            f"`{where}` has the splits {', '.join(there)} and no `train`",
            f"choose one with {where}?split={there[0]}, or read all with ?split=none",
        )
    chosen = wanted or "train"
    pairs = list(zip(names, splits, strict=True))
    others = [name for name, split in pairs if split != chosen]
    if others:
        some = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
        notes.append(
            f"of `{printable(where)}` only the split `{chosen}` is read, not {printable(some)}; "
            "?split=NAME chooses another"
        )
    return [name for name, split in pairs if split == chosen], others
