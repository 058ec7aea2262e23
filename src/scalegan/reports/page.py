"""A page of sections, written as one HTML file and as Markdown, each by a Jinja2 template.

The HTML file needs nothing else: no script, no font, no request. Values are escaped by the
templates, and the page's own policy forbids scripts and requests besides.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scalegan.runtime.files import write_durable


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Notice(NamedTuple):
    """What is missing, or what to know before believing what stands above."""

    text: str


class Tiles(NamedTuple):
    """The few most important numbers: (value, what it is)."""

    items: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """Rows of cells below their heads; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Figure(NamedTuple):
    """An encoded image with its caption."""

    data: bytes
    media_type: str
    caption: str
    width: int
    """In pixels, at most to be shown in."""
    file: str = ""
    """Where the same is in a file of its own, seen from the page."""

    @property
    def url(self) -> str:
        """The image itself as a URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


class Plot(NamedTuple):
    """A drawing with its caption."""

    svg: str
    """The text of an SVG element, which stands in the page as it is."""
    caption: str
    file: str = ""


class Gallery(NamedTuple):
    """Images and plots side by side, as many as fit."""

    items: Sequence[Figure | Plot]


class Details(NamedTuple):
    """Long text that is folded away under its title."""

    title: str
    text: str


# The templates choose by the class's name.
Block = Text | Notice | Tiles | Table | Gallery | Details


class Section(NamedTuple):
    """A heading and what is below it."""

    title: str
    blocks: Sequence[Block]


class Page(NamedTuple):
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""


def write_page(page: Page, html: Path, markdown: Path) -> str:
    """Write a page as HTML and as Markdown; return the size of the HTML file in words."""
    text = to_html(page)
    for file, content in ((html, text), (markdown, to_markdown(page, html.name))):
        write_durable(file, content)
    return size_text(len(text.encode()))


def to_html(page: Page) -> str:
    """A page as the text of one HTML file, whose last line states its size."""
    template = _environment(autoescape=True).get_template("page.html")
    size = len(template.render(page=page, size="").encode())
    return template.render(page=page, size=f"{size_text(size)} in one file")


def to_markdown(page: Page, html_name: str) -> str:
    """A page as Markdown: the same words and numbers; of images, those that are files anyway.

    Args:
        html_name: name of the HTML file, which has all images.
    """
    # Jinja2 itself escapes only for HTML; `finalize` sees every value that a template prints.
    environment = _environment(
        autoescape=False,
        finalize=lambda value: value if isinstance(value, Markup) else escape_markdown(str(value)),
    )
    return environment.get_template("page.md").render(page=page, html_name=html_name, fence=fence)


def _environment(**options: Any) -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def escape_markdown(text: str) -> str:
    """Text that Markdown takes for nothing but text, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """Backticks for a Markdown code block, more than any that stand together in its text."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def size_text(num_bytes: int) -> str:
    """A file size in kB or MB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"
