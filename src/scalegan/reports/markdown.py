"""A page as Markdown: the same words and numbers; of images, those that are files anyway."""

import re

from scalegan.reports.page import Block, Folded, Gallery, Notice, Page, Table, Text, Tiles


def markdown(page: Page, beside: str) -> str:
    """The whole page.

    Args:
        beside: name of the HTML file, which has all images.
    """
    lines = [f"# {plain(page.title)}", plain(page.subtitle), f"All images: {plain(beside)}"]
    for section in page.sections:
        lines.append(f"## {plain(section.title)}")
        lines += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join([*lines, *map(plain, page.footer)]) + "\n"


def plain(text: str) -> str:
    """Text that Markdown takes for nothing but text."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return plain(text)
        case Notice(text):
            return f"> {plain(text)}"
        case Tiles(items):
            return "\n".join(f"- {plain(name)}: **{plain(value)}**" for value, name in items)
        case Table(head, rows):
            lines = [head, ["---"] * len(head), *rows]
            cells = [[cell if cell == "---" else plain(cell) for cell in line] for line in lines]
            return "\n".join(f"| {' | '.join(line)} |" for line in cells)
        case Gallery(items):
            files = [item for item in items if item.file]
            return "\n\n".join(f"![{plain(item.caption)}](<{item.file}>)" for item in files)
        case Folded(title, text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{plain(title)}:\n\n{fence}text\n{text.rstrip()}\n{fence}"
