"""A page as one HTML file that needs nothing else: no script, no font, no request.

Everything that comes from outside passes `escape`; the page's own policy forbids scripts and
requests besides, should something slip through.
"""

import base64
from collections.abc import Sequence
from html import escape

from scalegan.reports.page import (
    Block,
    Figure,
    Folded,
    Gallery,
    Notice,
    Page,
    Plot,
    Section,
    Table,
    Text,
    Tiles,
)

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--ink:#1c2330;--faint:#5d6778;
--line:#e1e5eb;--accent:#2f6fdd;--warn:#fff6e0;--warn-line:#e0b347}
@media(prefers-color-scheme:dark){:root{--back:#11151c;--card:#1a202a;--ink:#e4e8ef;--faint:#9aa5b6;
--line:#2d3644;--accent:#7aa9ff;--warn:#2c2614;--warn-line:#a98a35}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 12px}
p{margin:0 0 12px;max-width:76ch;overflow-wrap:anywhere}
header p,figcaption,footer{color:var(--faint)}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:14px 0 20px;font-size:.92rem}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:20px;margin:0 0 16px;min-width:0}
section>:last-child{margin-bottom:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr))}
.tiles{gap:10px;margin:0 0 14px}
.tiles div{border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.tiles b{display:block;font-size:1.35rem;font-weight:650;font-variant-numeric:tabular-nums}
.tiles span{color:var(--faint);font-size:.85rem}
.wide{overflow-x:auto;margin:0 0 14px}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:5px 18px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{color:var(--faint);font-weight:500;white-space:nowrap}
tbody th{font-weight:500;min-width:8.5rem}
.gallery{display:flex;flex-wrap:wrap;gap:18px;margin:0 0 14px}
figure{margin:0;min-width:0;max-width:100%}
figure.plot{flex:1 1 300px;max-width:460px}
figure img{display:block;width:100%;height:auto;border-radius:4px}
figure svg{display:block;width:100%;height:auto}
figure svg text{font-family:inherit!important}
figcaption{font-size:.88rem;margin-top:5px;overflow-wrap:anywhere}
.notice{background:var(--warn);border-left:3px solid var(--warn-line);border-radius:6px;
padding:8px 12px;max-width:none}
summary{cursor:pointer;color:var(--accent)}
details{margin:0 0 10px}
pre{overflow-x:auto;font-size:.82rem;line-height:1.45;background:var(--back);border-radius:8px;
padding:12px;margin:8px 0}
footer{font-size:.85rem}
@media(max-width:600px){main{padding:18px 10px 32px}section{padding:15px 13px;border-radius:10px}
h1{font-size:1.5rem}th,td{padding-right:12px}}
@media print{section{break-inside:avoid}nav{display:none}}
"""


def html(page: Page) -> str:
    """The whole page; its last line states its size."""
    text = _page(page, "")
    return _page(page, f"{size_text(len(text.encode()))} in one file")


def size_text(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def _page(page: Page, size: str) -> str:
    title, subtitle = escape(page.title), escape(page.subtitle)
    links = "".join(f'<a href="#part-{i}">{escape(s.title)}</a>'
                    for i, s in enumerate(page.sections))  # fmt: skip
    sections = "\n".join(_section(s, i) for i, s in enumerate(page.sections))
    footer = "<br>".join(escape(line) for line in [*page.footer, size] if line)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head>
<body><main>
<header><h1>{title}</h1><p>{subtitle}</p></header>
<nav>{links}</nav>
{sections}
<footer>{footer}</footer>
</main></body></html>
"""


def _section(section: Section, number: int) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="part-{number}"><h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Notice(text):
            return f'<p class="notice">{escape(text)}</p>'
        case Tiles(items):
            cells = (f"<div><b>{escape(v)}</b><span>{escape(name)}</span></div>"
                     for v, name in items)  # fmt: skip
            return f'<div class="tiles">{"".join(cells)}</div>'
        case Table(head, rows):
            return _table(head, rows)
        case Gallery(items):
            return f'<div class="gallery">{"".join(_figure(item) for item in items)}</div>'
        case Folded(title, text):
            folded = f"<summary>{escape(title)}</summary><pre>{escape(text)}</pre>"
            return f"<details>{folded}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    above = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return f'<div class="wide"><table>{above}<tbody>{"".join(lines)}</tbody></table></div>'


def _figure(item: Figure | Plot) -> str:
    caption = escape(item.caption)
    below = f"<figcaption>{caption}</figcaption>"
    if isinstance(item, Plot):
        drawing = item.svg.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1)
        return f'<figure class="plot">{drawing}{below}</figure>'
    data = base64.b64encode(item.data).decode()
    image = f'<img alt="{caption}" src="data:{item.media_type};base64,{data}">'
    # It shrinks to stand beside others, and never grows beyond its own pixels.
    style = f"flex:1 1 {min(240, item.width * 2 // 3)}px;max-width:min(100%,{item.width}px)"
    return f'<figure style="{style}">{image}{below}</figure>'
