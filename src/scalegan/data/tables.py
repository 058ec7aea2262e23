"""The data sources by the name that stands before the colon in `data.source`."""

from collections.abc import Callable

from scalegan.data import files, parquet, sources

SOURCES: dict[str, Callable[[str], sources.Source]] = {
    "folder": files.folder,
    "flat": files.flat,
    "zip": files.zipped,
    "webdataset": files.webdataset,
    "parquet": parquet.parquet,
    "npz": sources.npz,
    "digits": sources.digits,
}
