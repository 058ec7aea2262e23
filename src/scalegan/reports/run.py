"""`scalegan report`: one page about a run, as HTML and as Markdown."""

from collections.abc import Callable
from pathlib import Path

from scalegan.errors import ConfigError
from scalegan.evaluation.images import ImageOptions
from scalegan.reports import images
from scalegan.reports import numbers as figures
from scalegan.reports.html import html, size_text
from scalegan.reports.markdown import markdown
from scalegan.reports.page import Page
from scalegan.reports.subject import Subject, open_subject
from scalegan.reports.sweep import estimate, images_per_second, measure_all, ways
from scalegan.runtime.files import atomic_file
from scalegan.runtime.world import World

NAME = "report.html"


def report(
    path: Path,
    out: Path | None,
    num: int,
    truncations: str,
    against: str,
    features: str,
    world: World,
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Measure and draw a run, and write the page.

    Args:
        path: a run, or a snapshot.
        out: the HTML file; None = report.html in the run's folder. The Markdown file is beside it.
        num: images of each truncation that are measured; 0 = nothing is measured.
        truncations: separated by commas, for a generator that has truncation.
        against, features: as `scalegan evaluate` has them.

    Returns:
        Lines for people.

    Raises:
        CheckpointError: if it is no run, or damaged.
        ConfigError: if it is called by several processes, or would overwrite something else.
    """
    if num < 0:
        raise ConfigError(f"`--num` is {num}; expected 0 or more")
    psis = parse_truncations(truncations)
    if world.size > 1:
        raise ConfigError("a report is made by one process", "call it without torchrun")
    out = out or path / NAME
    if out.suffix != ".html":
        raise ConfigError(f"`--out` is `{out}`; expected a file named something.html")
    subject = open_subject(path, out, str(world.device), tell)
    if subject.gan:
        subject.truncations = ways(subject.gan, psis)
        subject.rate = images_per_second(subject.gan)
        if num:
            tell(estimate(num, len(subject.truncations), subject.rate))
            subject.measured = measure_all(
                str(path), subject.gan, against, features, ImageOptions(num=num),
                subject.truncations, world, tell,
            )  # fmt: skip
    page = page_of(subject)
    text, beside = html(page), out.with_suffix(".md")
    out.parent.mkdir(parents=True, exist_ok=True)
    for file, content in ((out, text), (beside, markdown(page, out.name))):
        with atomic_file(file) as draft:
            draft.write_text(content, encoding="utf-8")
    notes = [f"notice: not in it: {reason}" for reason in subject.measured.lacking.values()]
    return [*notes, f"{out} ({size_text(len(text.encode()))}), {beside}"]


def parse_truncations(text: str) -> list[float]:
    """Truncations of "0.5,1.0".

    Raises:
        ConfigError: if one is no number, or below 0.
    """
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [-1.0]
    if not all(0 <= psi < float("inf") for psi in found):
        raise ConfigError(f'`--truncations` is "{text}"; expected numbers such as 0.5,0.7,1.0')
    return found


def page_of(subject: Subject) -> Page:
    """All parts, in the order in which one asks for them."""
    kind = subject.gan.card.model.architecture if subject.gan else "no snapshot yet"
    parts = [
        figures.overview, images.samples, figures.curves, images.levels, figures.metrics,
        figures.truncation, images.classes, images.neighbors, figures.cost, figures.settings,
    ]  # fmt: skip
    where = f"{kind}, {subject.snapshot or subject.path}"
    return Page(subject.name, where, [part(subject) for part in parts], figures.footer())
