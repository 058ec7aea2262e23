"""What a page is made of, before it is HTML or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """What is missing, or what to know before believing what stands above."""

    text: str


@dataclass(frozen=True)
class Tiles:
    """The few figures that one looks for first: (value, what it is)."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells below their heads; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """An encoded image."""

    data: bytes
    media_type: str
    caption: str
    width: int
    """In pixels, at most to be shown in."""
    file: str = ""
    """Where the same is in a file of its own, seen from the page."""


@dataclass(frozen=True)
class Plot:
    """A drawing, as the text of an SVG element."""

    svg: str
    caption: str
    file: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images and plots side by side, as many as fit."""

    items: Sequence[Figure | Plot]


@dataclass(frozen=True)
class Folded:
    """Long text that only some want to read."""

    title: str
    text: str


Block = Text | Notice | Tiles | Table | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: Sequence[str] = field(default=())
