"""HTML and Markdown of the same sections; nothing from outside becomes markup."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalegan.reports.page import (
    Block,
    Details,
    Figure,
    Gallery,
    Notice,
    Page,
    Plot,
    Section,
    Table,
    Text,
    Tiles,
    escape_markdown,
    size_text,
    to_html,
    to_markdown,
)

HOSTILE = (
    """<script>alert(1)</script> & "quoted" 'single' </pre> | `code` [x](http://evil) <img src=x>"""
)
PNG = b"\x89PNG not really"


def page(text: str) -> Page:
    image, plot = Figure(PNG, "image/png", text, 40), Plot("<svg></svg>", text, "a b.png")
    blocks: list[Block] = [
        Text(text),
        Notice(text),
        Tiles([(text, text)]),
        Table(["", text], [(text, text)]),
        Gallery([image, plot]),
        Details(text, text),
    ]
    return Page(text, text, [Section(text, blocks)], text)


class Reader(HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


PRINTED = st.characters(exclude_categories=["Cs", "Cc"])


@given(st.text(PRINTED, min_size=1) | st.just(HOSTILE))
def test_text_never_becomes_markup(text: str) -> None:
    found, expected = read(to_html(page(text))), read(to_html(page("harmless")))
    assert found.tags == expected.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in expected.attributes]
    assert text in found.text


def test_nothing_is_requested() -> None:
    attributes = read(to_html(page("text"))).attributes
    urls = [value for name, value in attributes if name in ("src", "href", "data", "action")]
    assert urls == ["#part-0", f"data:image/png;base64,{urls[1].split(',')[1]}"]  # type: ignore[union-attr]
    assert "default-src 'none'" in to_html(page("text"))


def test_markdown_keeps_text_text() -> None:
    text = to_markdown(page(HOSTILE), "report.html")
    outside = "".join(text.split("```")[::2])
    assert "<script" not in outside.replace("\\<", "") and "](http" not in outside.replace(
        "\\]", ""
    )
    assert "![" in text and "](<a b.png>)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.replace("\\|", "").count("|") for line in rows] == [3, 3, 3], rows


def test_markdown_paragraphs_stand_apart() -> None:
    text = to_markdown(page("text"), "report.html")
    parts = ["# text", "text", "All images: report.html", "## text", "text", "> text",
             "- text: **text**", "|  | text |\n| --- | --- |\n| text | text |",
             "![text](<a b.png>)", "text:", "```text\ntext\n```", "text"]  # fmt: skip
    assert text == "\n\n".join(parts) + "\n"


def test_markdown_fences_are_longer_than_what_they_hold() -> None:
    text = to_markdown(Page("a", "b", [Section("c", [Details("d", "x ```` y")])]), "e.html")
    assert "`````text\nx ```` y\n`````" in text


def test_the_page_states_its_size() -> None:
    text = to_html(page("text"))
    assert f"{size_text(len(text.encode()))} in one file" in text


@pytest.mark.parametrize(("count", "words"), [(999, "1 kB"), (412_345, "412 kB"), (3e6, "3.0 MB")])
def test_sizes(count: float, words: str) -> None:
    assert size_text(int(count)) == words


def test_markdown_is_escaped() -> None:
    assert escape_markdown("a_b*c\nd|e") == "a\\_b\\*c d\\|e"
