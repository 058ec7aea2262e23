"""Sorting out the files of a source: images with their labels, and all the others with a reason.

What is hidden or left by a system is passed over. One folder around everything is opened, and of
folders called like splits `train`. Labels are those of a file of labels at the top, else of .cls
and .json files beside the images, else the names of the folders; without any there is one class.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from os.path import basename, normpath, splitext
from pathlib import Path
from typing import Any

from scalegan.data.images import (
    SUFFIXES,
    BadImage,
    Problem,
    is_image,
    refuse_unread,
)
from scalegan.data.labels import (
    DEFAULT_LABELS,
    LABEL_COLUMNS,
    Classes,
    Columns,
    LabelFile,
    decode_text,
    read_label_file,
    refuse_undecoded,
)
from scalegan.data.listings import File, read_all, read_path
from scalegan.data.matching import (
    Index,
    Labeled,
    before_dot,
    key_of,
    match_neighbors,
    match_table,
    refuse_disagreement,
)
from scalegan.data.names import (
    UNREAD,
    choose_split,
    composed,
    escape,
    hidden_part,
    is_named_image,
    other_kind,
    split_of,
)
from scalegan.data.sources import (
    DAMAGE,
    Options,
    Row,
    Source,
    SourceImage,
    no_labels,
    problem_of,
    read_rows,
)
from scalegan.errors import DataError

CLASS_NAMES = ("class_names.txt", "classnames.txt")
BESIDE = (".cls", ".json")
"""Suffixes of files that hold the label of one image, which they are named like."""
MAX_LABEL_BYTES = 2**20


class Content:
    """The files of a source, sorted out: images with their labels, and all the others.

    Args:
        where: the source, for messages.
        problems: what its listing could not read; what is left out here is added.
        beside: the folder in which files of labels and of class names may lie.
        one_class: the name of the class where there is only one.
        is_folder: whether a file of labels may name images elsewhere, and orders them.
        is_sampled: whether keys are the base names of samples, as in tar shards.
    """

    def __init__(
        self,
        where: str,
        options: Options,
        problems: list[Problem],
        beside: Path,
        one_class: str = "all",
        is_folder: bool = False,
        is_sampled: bool = False,
    ) -> None:
        self.where, self.options, self.problems, self.beside = where, options, problems, beside
        self.one_class, self.is_folder, self.is_sampled = one_class, is_folder, is_sampled
        self.passed_over: list[Problem] = []
        self.notes: list[str] = []
        self.files: list[File] = []  # images, by name or content
        self.others: list[File] = []
        self.folders: set[str] = set()
        self.written: dict[str, Any] = {}  # labels beside the images, by the file they stand in
        self.root = ""
        self.table = ""  # the file of labels

    def source(self, files: Iterable[File]) -> Source:
        """Sort out the files and give each image its label."""
        self.take(files)
        self.find_root()
        names = self.class_names()
        labeled, names = self.labels(names)
        try:
            classes = Classes((one.label for one in labeled if not one.reason), names)
        except DataError as error:
            where = normpath(f"{self.where}/{self.table}") if self.table else self.where
            raise DataError(f"`{where}`: {error}", error.hint) from None
        unused = {file.whole for file in self.others}
        for name in sorted(unused):
            kind = "holds no label that is used" if name in self.written else other_kind(name)
            self.passed_over.append(Problem(escape(name), kind, "passed over"))

        def read() -> Iterator[SourceImage]:
            rows = (Row(one.key, partial(_read_image, one), one.label) for one in labeled)
            return read_rows(rows, classes, self.problems, self.passed_over)

        return Source(
            read,
            classes.names,
            len(labeled),
            self.problems,
            self.notes,
            self.passed_over,
            f"`{self.where}`",
        )

    def pass_over(self, keys: Iterable[str], reason: str, kind: Any = "passed over") -> None:
        """List files that are no images of the source."""
        self.passed_over += [Problem(key, reason, kind) for key in keys]

    def take(self, files: Iterable[File]) -> None:
        """Tell files, folders and what is hidden apart, and read the labels beside images."""
        hidden: dict[str, None] = {}
        for file in files:
            if part := hidden_part(file.name.rstrip("/")):
                hidden[escape(file.shard + part)] = None
            elif file.name.endswith("/"):
                self.folders.add(file.name)
            elif self.is_image(file):
                self.files.append(file)
            else:
                self.others.append(file)
                is_label = splitext(file.name)[1].lower() in BESIDE
                if (
                    is_label
                    and basename(file.name) not in DEFAULT_LABELS
                    and file.size <= MAX_LABEL_BYTES
                ):
                    self.written[file.whole] = _label_in(file)
        self.pass_over(hidden, "hidden, or left by a system", "hidden")

    def is_image(self, file: File) -> bool:
        """Whether a file is an image by name or content; what is of an unread kind is a problem."""
        try:
            return is_named_image(file.name) or _has_image(file)
        except (BadImage, *DAMAGE) as error:
            self.problems.append(problem_of(escape(file.whole), error))
            return False

    def find_root(self) -> None:
        """Open a folder that all images lie in, and the folder of a split."""
        wanted = self.options.split
        while True:
            images = [f.name.removeprefix(self.root) for f in self.below(self.root)]
            others = {f.name.removeprefix(self.root) for f in self.others}
            tops = sorted({name.split("/")[0] for name in images if "/" in name})
            if others.intersection((*DEFAULT_LABELS, self.options.labels)):
                break
            if not tops or any("/" not in name for name in images):
                break
            splits = [split_of(top, "folder") for top in tops]
            if all(splits) and self.options.split != "none":
                where = normpath(f"{self.where}/{self.root}") if self.root else self.where
                chosen, rest = choose_split(where, tops, splits, wanted, self.notes)
                if len(chosen) > 1:
                    break
                for top in rest:
                    prefix = f"{self.root}{top}/"
                    keys = [f.whole for f in (*self.files, *self.others)
                            if f.name.startswith(prefix)]  # fmt: skip
                    reason = f"of the split `{split_of(top, 'folder')}`"
                    self.pass_over(map(escape, keys), reason, "other split")
                    gone = set(keys)
                    self.files = [f for f in self.files if f.whole not in gone]
                    self.others = [f for f in self.others if f.whole not in gone]
                self.root, wanted = f"{self.root}{chosen[0]}/", ""
            elif len(tops) == 1 and (
                all(name.count("/") > 1 for name in images)
                or others.intersection(f"{tops[0]}/{name}" for name in DEFAULT_LABELS)
            ):
                self.root = f"{self.root}{tops[0]}/"
            else:
                break
        if wanted not in ("", "none"):
            raise DataError(f"`{self.where}` has no split `{wanted}`")

    def below(self, prefix: str) -> list[File]:
        """The files whose names begin with a folder's."""
        return [file for file in self.files if file.name.startswith(prefix)]

    def class_folders(self) -> list[str]:
        """The names of the folders at the root, sorted by their composed form."""
        files = [file.name for file in (*self.files, *self.others)]
        names = [n.removeprefix(self.root) for n in (*files, *self.folders)
                 if n.startswith(self.root)]  # fmt: skip
        return sorted({name.split("/")[0] for name in names if "/" in name}, key=composed)

    def class_names(self) -> list[str] | None:
        """Names of classes that a file at the root or beside the source lists, one a line."""
        for name in CLASS_NAMES:
            for file in self.take_files(name):
                text = decode_text(read_all(file), file.name, self.options.encoding)
                refuse_undecoded([text], file.name)
                return [escape(composed(line)) for line in text.splitlines() if line.strip()]
        return None

    def take_files(self, name: str) -> list[File]:
        """Take a file of this name out of the files: at the root, at the top, beside the source."""
        places = [file for file in self.others if file.name in (self.root + name, name)]
        self.others = [file for file in self.others if file not in places]
        path = self.beside / name
        if not places and path.is_file():
            return [File(name, 0, partial(read_path, str(path)))]
        return places[:1]

    def labels(self, names: list[str] | None) -> tuple[list[Labeled], list[str] | None]:
        """Label the files by the first of the readings that there is."""
        wanted = self.options.labels
        if wanted not in ("folders", "beside"):
            found = self.by_table(names)
            if found is not None:
                return found
        images = {f.whole for f in self.files}
        bases = {splitext(name)[0] for name in images} | set(map(before_dot, images))
        has_labels = any(
            label is not None and not bases.isdisjoint((splitext(name)[0], before_dot(name)))
            for name, label in self.written.items()
        )
        if wanted == "beside" or (has_labels and wanted != "folders"):
            labeled = self.by_neighbors()
            self.notice_folders(labeled, "those of the .cls and .json files")
            return labeled, names
        labeled = [Labeled(file, escape(file.name), None) for file in self.files]
        return self.by_folders(self.by_neighbors() if self.is_sampled else labeled, names)

    def by_neighbors(self) -> list[Labeled]:
        """Label images by the .cls and .json files that are named like them."""
        labeled, used, problems = match_neighbors(self.files, self.written, self.is_sampled)
        self.problems += problems
        self.others = [file for file in self.others if file.whole not in used]
        return labeled

    def elsewhere(self, index: Index, name: str) -> File:
        """Find a file that a label names; one that is not listed may still lie at its path."""
        if (file := index.find(name)) is not None:
            return file
        relative = normpath(name.strip())
        # It is listed once: by how it is read.
        self.others = [file for file in self.others if file.name != relative]
        self.passed_over = [one for one in self.passed_over if one.key != escape(relative)]
        return File(relative, 0, partial(read_path, str(self.beside / self.root / relative)))

    def by_folders(
        self, images: list[Labeled], names: list[str] | None
    ) -> tuple[list[Labeled], list[str]]:
        """Label images by the folder at the root that they lie in, or as of one class."""
        tops = self.class_folders()
        if not tops or (images and not any(self.top_of(one.file) for one in images)):
            if names and len(names) > 1:
                return images, names  # which of them, nothing says
            self.notes.append(no_labels(self.where))
            names = names or [self.one_class]
            return [one._replace(label=0) for one in images], names
        by_name = Counter(map(composed, tops))
        twice = [name for name, count in by_name.items() if count > 1]
        if twice:
            raise DataError(
                f"`{self.where}` has two folders `{escape(twice[0])}`, whose accents are written "
                "in two ways",
                "move the images of one into the other",
            )
        classes = [escape(name) for name in sorted(map(composed, tops))]
        classes = names if names and set(classes) <= set(names) else classes
        places = {name: i for i, name in enumerate(classes)}
        indices = {top: places[escape(composed(top))] for top in tops}
        reason = "lies in no class folder"
        labeled = [
            one._replace(label=indices[top]) if top else one._replace(reason=reason)
            for one in images
            for top in [self.top_of(one.file)]
        ]
        return labeled, classes

    def top_of(self, file: File) -> str:
        """The class folder that a file lies in; empty if none."""
        inside = file.name.removeprefix(self.root)
        is_below = file.name.startswith(self.root) and "/" in inside
        return inside.split("/")[0] if is_below else ""

    def notice_folders(self, labeled: list[Labeled], what: str) -> None:
        """Say that folders would make other classes than the labels that are used."""
        pairs = {(top, str(one.label)) for one in labeled if (top := self.top_of(one.file))}
        tops = {top for top, _ in pairs}
        if len(tops) > 1 and len(pairs) != len(tops):
            self.notes.append(
                f"labels are {what}, not the names of the {len(tops):,} folders; "
                "?labels=folders takes those"
            )

    def by_table(self, names: list[str] | None) -> tuple[list[Labeled], list[str] | None] | None:
        """Label images by a file of labels; None if there is none that names labels."""
        wanted = self.options.labels
        tables: list[tuple[str, LabelFile]] = []
        index = Index(self.files, self.root)
        columns = Columns(self.options.file, self.options.label, self.options.encoding)
        for name in [wanted] if wanted else DEFAULT_LABELS:
            num_others = len(self.others)
            for file in self.take_files(name):
                is_inside = len(self.others) < num_others
                try:
                    data = read_all(file)
                except DAMAGE as error:
                    what = f"`{name}` in `{self.where}` cannot be read: {error}"
                    raise DataError(what) from None
                try:
                    table = read_label_file(data, name, columns, index.has)
                except DataError:
                    if is_inside or wanted:
                        raise
                    continue  # lies beside the source by chance
                if not table.has_labels:
                    self.pass_over([escape(name)], "holds no column of labels")
                elif is_inside or wanted or any(index.has(file) for file, _ in table.labels):
                    tables.append((name, table))
        if wanted and not tables:
            raise DataError(f"there is no file of labels `{wanted}` in or beside `{self.where}`")
        if not tables:
            return None
        name, table = tables[0]
        self.table = name
        refuse_disagreement(self.where, tables)
        self.notes += table.notes
        refuse_undecoded((label for _, label in table.labels), name)
        if not table.labels and name.lower().endswith(".json"):  # StyleGAN's way to say it
            self.notes.append(no_labels(self.where))
            labels = [Labeled(f, key_of(f, self.is_sampled), 0) for f in self.files]
            return labels, [self.one_class]
        refuse_undecoded((file for file, _ in table.labels if not index.has(file)), name)
        elsewhere = partial(self.elsewhere, index) if self.is_folder else index.find
        labeled, problems = match_table(
            table.labels, f"has no label in `{name}`", self.files, elsewhere, self.is_sampled
        )
        self.problems += problems
        if not self.is_folder:
            order = {file.whole: i for i, file in enumerate(self.files)}
            labeled.sort(key=lambda one: order[one.file.whole])
        self.notice_folders([one for one in labeled if not one.reason], f"those of `{name}`")
        given = table.class_names and [escape(composed(text)) for text in table.class_names]
        return labeled, given or names


def _has_image(file: File) -> bool:
    """Whether a file begins like an image; one of a kind that is not read raises `BadImage`."""
    start = file.read(32)
    refuse_unread(start)
    return is_image(start)


def _read_image(labeled: Labeled) -> bytes | None:
    """An image's bytes; None if it is none by name and content."""
    file = labeled.file
    suffix = splitext(file.name)[1].lower()
    if labeled.reason:
        raise BadImage(labeled.reason, "no usable label")
    if suffix in UNREAD:
        raise BadImage(f"images of kind {suffix} are not read", "not an image")
    if suffix not in SUFFIXES and not _has_image(file):
        return None
    return read_all(file)


def _label_in(file: File) -> Any:
    """The label in a file beside an image; None if there is none."""
    try:
        text = read_all(file).decode("utf-8", "replace")
    except DAMAGE:
        return None  # what is damaged is listed when it is read as a file
    if file.name.lower().endswith(".cls"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [value.get(name) for name in LABEL_COLUMNS] if isinstance(value, dict) else []
    return next((found for found in values if found is not None), None)
