"""Sources that hold images as files: a folder, a zip archive, tar shards; `content` reads all."""

from functools import partial
from itertools import chain
from pathlib import Path

from scalegan.data.content import Content
from scalegan.data.images import (
    Problem,
)
from scalegan.data.labels import (
    DEFAULT_LABELS,
)
from scalegan.data.listings import File, list_folder, list_tars, list_zip, read_path
from scalegan.data.names import (
    choose_split,
    escape,
    hidden_part,
    split_of,
)
from scalegan.data.sources import (
    Source,
    split_options,
)
from scalegan.errors import DataError


def folder(where: str) -> Source:
    """Read the images of a folder. Links to images, and to folders outside, are followed.

    Raises:
        DataError: if it is not a folder or its labels cannot be read.
    """
    path, options = split_options(where)
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"there is no folder `{path}`")
    problems: list[Problem] = []
    content = Content(path, options, problems, root, escape(root.absolute().name) or "all", True)
    return content.source(list_folder(root, problems))


def flat(where: str) -> Source:
    """Read a folder by a file of labels: the path of that file, or a folder that holds one.

    Raises:
        DataError: if there are no labels to read.
    """
    path, options = split_options(where)
    file = Path(path)
    if file.is_dir() and not options.labels:
        found = [file / name for name in DEFAULT_LABELS if (file / name).is_file()]
        if not found:
            hint = f"expected one of {', '.join(DEFAULT_LABELS)}"
            raise DataError(f"`{path}` holds no file of labels", hint)
        return folder(where)
    if file.is_dir():
        return folder(where)
    root, problems = file.parent, list[Problem]()
    options = options._replace(labels=file.name)
    content = Content(str(root), options, problems, root, "all", True)
    return content.source(list_folder(root, problems))


def zipped(where: str) -> Source:
    """Read the images of a zip archive, such as StyleGAN's `dataset_tool.py` makes.

    Raises:
        DataError: if it is not a zip archive or its labels cannot be read.
    """
    path, options = split_options(where)
    content = Content(path, options, [], Path(path).parent)
    return content.source(list_zip(Path(path), options.encoding))


def webdataset(where: str) -> Source:
    """Read tar shards. As in WebDataset, files of one base name are a sample, keyed by it.

    Args:
        where: one .tar (also .tar.gz), or a folder of them.

    Raises:
        DataError: if there is no shard that can be read.
    """
    text, options = split_options(where)
    path, notes, problems = Path(text), list[str](), list[Problem]()
    names = [path.name]
    beside = path.parent
    others: list[str] = []
    if path.is_dir():
        beside = path
        found = {file.name for kind in ("*.tar", "*.tar.gz", "*.tgz") for file in path.glob(kind)}
        names = sorted(name for name in found if not hidden_part(name))
        splits = [split_of(name, "file") for name in names]
        if any(splits):
            names, others = choose_split(text, names, splits, options.split, notes)
            options = options._replace(split="")
    shards = [beside / name for name in names]
    if not shards or not shards[0].is_file():
        raise DataError(
            f"there are no tar files at `{path}`", "expected NAME.tar or a folder of them"
        )
    content = Content(text, options, problems, beside, is_sampled=True)
    content.notes += notes
    content.pass_over((escape(name) for name in others), "of another split", "other split")
    around = [
        File(file.name, file.stat().st_size, partial(read_path, str(file)))
        for file in (sorted(path.iterdir()) if path.is_dir() else [])
        if file.is_file() and file.name not in names and file.name not in others
    ]
    source = content.source(chain(list_tars(shards, problems), around))
    if not source.num_images and problems:
        raise DataError(f"`{path}` cannot be read: {problems[0].reason}")
    return source
