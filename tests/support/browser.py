"""Pages in a real browser: headless Chromium, as Debian's package installs it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    *("--enable-logging=stderr", "--virtual-time-budget=10000", "--hide-scrollbars"),
]
# It runs outside the page, which is in a frame of a phone's or a desktop's width and forbids
# scripts. What is measured becomes text of the outer page.
MEASURE = """
const frame = document.querySelector('iframe');
function measure() {
  const page = frame.contentDocument;
  const images = [...page.images];
  const box = element => element.getBoundingClientRect();
  document.body.textContent = 'FOUND' + encodeURIComponent(JSON.stringify({
    title: page.title,
    headings: [...page.querySelectorAll('h1, h2')].map(h => h.textContent),
    images: images.map(image => image.complete ? image.naturalWidth : 0),
    plots: [...page.querySelectorAll('svg')].map(svg => box(svg).height),
    scripts: page.scripts.length,
    width: page.documentElement.scrollWidth,
    background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  })) + 'END';
}
addEventListener('load', measure);  // when the frame and its images are there
"""


def render(page: Path, width: int, folder: Path) -> dict[str, Any]:
    """Open a page in a browser and measure it: headings, images' widths, messages, ...

    Skips the test where there is no browser.

    Args:
        page: an HTML file.
        width: of the window in pixels.
        folder: for the browser's own files.
    """
    if not CHROMIUM:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    outer = folder / f"outer-{width}.html"
    source = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{source}"></iframe>'
    outer.write_text(f'<meta charset="utf-8">{frame}<script>{MEASURE}</script>', encoding="utf-8")
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, outer.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    match = re.search("FOUND(.*)END", done.stdout)
    assert match, done.stderr[-2000:]

    found: dict[str, Any] = json.loads(unquote(match[1]))
    return found | {"console": re.findall(r"CONSOLE.*", done.stderr)}
