"""The version of the package, for its metadata and for what it writes."""

__version__ = "0.1.0"
