"""The data sources by the name that stands before the colon in `data.source`."""

from collections.abc import Callable

from scalegan.data import archives, folders, parquet, sources

SOURCES: dict[str, Callable[[str], sources.Source]] = {
    "folder": folders.folder,
    "flat": folders.flat,
    "zip": archives.zipped,
    "webdataset": archives.webdataset,
    "parquet": parquet.parquet,
    "npz": sources.npz,
    "digits": sources.digits,
}
