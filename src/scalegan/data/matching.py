"""Which label belongs to which file: by a file of labels, or by small files beside the images."""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from os.path import splitext
from typing import Any, NamedTuple

from scalegan.data.images import BadImage, Problem
from scalegan.data.labels import LabelFile
from scalegan.data.listings import File
from scalegan.data.names import escape, is_named_image, normal_form
from scalegan.errors import DataError


class Labeled(NamedTuple):
    """A file with the label that one of the readings gives it."""

    file: File
    key: str
    label: Any
    reason: str = ""
    """Why it has none; empty if it has one, which may still be unusable."""


class Index:
    """Finds files by the names that a file of labels may give them."""

    def __init__(self, files: list[File], root: str) -> None:
        self.root = root
        self.files: dict[str, dict[str, File]] = {}
        for file in files:
            whole = file.whole
            inside = file.name.removeprefix(root)
            for name in {inside, file.name, whole, *map(normal_form, (inside, file.name, whole))}:
                self.files.setdefault(name, {}).setdefault(whole, file)

    def find(self, name: str) -> File | None:
        """Find a file by its name as it is, else by its normal form; None if there is none.

        Raises:
            BadImage: if several files have it.
        """
        found = self.files.get(name) or self.files.get(normal_form(name)) or {}
        exact = [
            f for f in found.values() if name in (f.whole, f.name, f.name.removeprefix(self.root))
        ]
        if len(exact) == 1 or len(found) == 1:
            return [*exact, *found.values()][0]
        if found:
            some = " or ".join(f"`{escape(one)}`" for one in list(found)[:2])
            raise BadImage(f"may be {some}", "no usable label")
        return None

    def has(self, name: str) -> bool:
        """Whether a name is that of a file."""
        return bool(self.files.get(name) or self.files.get(normal_form(name)))


def before_dot(name: str) -> str:
    """What comes before the first dot of a file's name, with its folder: WebDataset's base name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def key_of(file: File, is_sampled: bool) -> str:
    """The key of an image: its name, in shards without its suffix."""
    is_cut = is_sampled and is_named_image(file.name)
    return escape(splitext(file.whole)[0] if is_cut else file.whole)


def refuse_disagreement(where: str, tables: Sequence[tuple[str, LabelFile]]) -> None:
    """Refuse two files of labels of one source that say different things."""
    first, table = tables[0]
    expected = {normal_form(name): str(label) for name, label in table.labels}
    for other, more in tables[1:]:
        for name, label in more.labels:
            said = expected.get(normal_form(name), str(label))
            if said != str(label):
                raise DataError(
                    f"`{first}` and `{other}` in `{where}` disagree: `{escape(name)}` is "
                    f"`{escape(said)}` or `{escape(str(label))}`",
                    f"choose one with {where}?labels={first}",
                )


def match_table(
    labels: Sequence[tuple[str, Any]],
    unlabeled: str,
    files: Sequence[File],
    find: Callable[[str], File | None],
    is_sampled: bool,
) -> tuple[list[Labeled], list[Problem]]:
    """Give files the labels that a file of labels lists, in its order; the others come last.

    Args:
        labels: names of files and labels as written.
        unlabeled: what is wrong with the others.
        find: finds a file by its name; raises `BadImage` if it may be several.
        is_sampled: whether keys are base names.
    """
    labeled: list[Labeled] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for name, label in labels:
        try:
            if "\0" in name or not name.strip():
                raise BadImage("is not the name of a file", "not a file")
            if (file := find(name)) is None:
                raise BadImage("has a label but is not in the archive", "cannot be read")
            if file.whole in seen:
                raise BadImage("is listed twice; the first one is kept", "used twice")
        except BadImage as error:
            problems.append(error.problem(escape(name) or "(no name)"))
            continue
        seen.add(file.whole)
        labeled.append(Labeled(file, key_of(file, is_sampled), label))
    rest = [file for file in files if file.whole not in seen]
    labeled += [Labeled(file, key_of(file, is_sampled), None, unlabeled) for file in rest]
    return labeled, problems


def match_neighbors(
    files: Sequence[File], written: dict[str, Any], is_sampled: bool
) -> tuple[list[Labeled], Container[str], list[Problem]]:
    """Give images the labels in files that are named like them, sample by sample.

    A sample is what comes before the first dot, as WebDataset has it; where several images share
    that, before the last dot, if a label is called so or none is.

    Args:
        written: labels by the files that they stand in; None = no label.
        is_sampled: whether there is one image to a sample, which gives it its key.

    Returns:
        The images, the files of labels that were used, and what fits nothing.
    """
    longs = {splitext(file.whole)[0] for file in files}
    sizes = Counter(before_dot(file.whole) for file in files)
    labels: dict[str, Any] = {}
    used: dict[str, str] = {}  # file of a label -> the sample that it labels
    for name, label in written.items():
        base = splitext(name)[0] if splitext(name)[0] in longs else before_dot(name)
        if label is not None and base not in labels:
            labels[base], used[name] = label, base
    first: dict[str, str] = {}  # the image of each sample
    labeled: list[Labeled] = []
    problems: list[Problem] = []
    met: set[str] = set()
    for file in files:
        name = file.whole
        long, short = splitext(name)[0], before_dot(name)
        if sizes[short] == 1 or long == short:
            base, key = (short if short in labels else long), short
        elif long in labels or not (short in longs or short in labels):
            base = key = long
        else:
            base = key = short
        met.add(base)
        is_further = key in first or (key == short != long and short in longs)
        if is_sampled and is_further:
            image = f" but `{escape(first[key])}`" if key in first else ""
            reason = f"is not the image of the sample `{escape(key)}`{image}"
            problems.append(Problem(escape(name), reason, "further image"))
            continue
        first[key] = name
        key = escape(key if is_sampled else name)
        labeled.append(Labeled(file, key, labels.get(base)))
    reason = "is the label of no image"
    problems += [Problem(escape(name), reason, "no usable label")
                 for name, base in used.items() if base not in met]  # fmt: skip
    return labeled, used, problems
