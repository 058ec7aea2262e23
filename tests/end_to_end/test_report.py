"""`scalegan report` through the command line: complete, incomplete, and in a real browser."""

import json
import re
import shutil
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

import scalegan as package
from scalegan.cli import main
from scalegan.config.models import BigGANConfig, LadaGANConfig
from scalegan.config.schema import AutoencoderConfig
from scalegan.data.memory import read_into_memory
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from scalegan.evaluation import images as inputs
from scalegan.evaluation.evaluate import Request
from scalegan.evaluation.images import ImageOptions
from scalegan.evaluation.results import figure
from scalegan.inference.gan import GAN
from scalegan.inference.snapshot import Card, build_generator, save_snapshot
from scalegan.interfaces import Generator
from scalegan.reports.truncation_sweep import (
    NUM_SAMPLES,
    Measurements,
    measure_sweep,
    usable_truncations,
)
from scalegan.runtime.world import World
from tests.support.browser import render
from tests.support.runs import scalegan, train

ALONE = World(0, 1, torch.device("cpu"))
HOSTILE = """<script>alert(1)</script> & "two" 'one'"""
PARTS = ["Overview", "Samples", "Curves", "What each level paints", "Metrics", "Truncation",
         "Worst and best classes", "Nearest training images", "Cost", "Config"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not evaluated, with a classifier, and its report."""
    folder = tmp_path_factory.mktemp("report") / "run"
    train(folder, 4, "--every.samples", "2 steps", "--every.checkpoint", "2 steps")
    scalegan("classifier", "train", "digits", str(folder / "classifier"), "--images-seen", "2000")
    done = scalegan("report", str(folder), "--num", "40", "--truncations", "0.5,1.0")
    assert re.search(r"report\.html \(\d+ kB\)", done.stdout), done.stdout
    assert "measuring 40 images at 2 truncations: about " in done.stdout
    return folder


def report(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments, "--device", "cpu"])
    assert stop.value.code == 0


def text_of(path: Path) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", path.read_text()))


def copy(run: Path, folder: Path, *without: str) -> Path:
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns(*without, "report.*"))
    return folder


def test_it_has_all_parts(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", text) == PARTS
    plain = text_of(run / "report.html")
    for phrase in (
        *("truncation 0.5", "no truncation", "levels 1 to 4", "worst: ", "step 2", "seed 7"),
        *("GFLOP per image forward", "PFLOP", "images/s on cpu", "[train]", "nearest 3"),
        *("0:0", " of training, ", "The run has recorded no evaluation"),
    ):
        assert phrase in plain, phrase
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    marked = (run / "report.md").read_text()
    assert all(f"## {part}\n" in marked for part in PARTS)
    for link in re.findall(r"\]\(<(.*?)>\)", marked):
        assert (run / link).is_file(), link


def test_numbers_are_those_of_evaluate(run: Path, tmp_path: Path) -> None:
    plain = text_of(run / "report.html")
    for psi in ("0.5", ""):
        out = tmp_path / "numbers.json"
        extra = ["--truncation", psi] if psi else ["--floor"]
        arguments = ["evaluate", str(run), "--num", "40", "--metrics", "fid,is,pr,per-class"]
        with pytest.raises(SystemExit):
            main([*arguments, *extra, "--out", str(out), "--device", "cpu"])
        numbers = {n["name"]: n for n in json.loads(out.read_text())["numbers"]}
        shown = [figure(numbers[name]["value"]) for name in ("fd", "is", "precision", "recall")]
        row = re.search(rf"{psi or 'none'} +((?:[\d.,]+ +){{4}})(\w{{12}})", plain)
        assert row and row[1].split() == shown and row[2] == numbers["fd"]["fingerprint"]
    for number in numbers.values():
        value, floor = figure(number["value"]), figure(number["floor"])
        spread = r"(?:-|\S+ (?:se|std))"
        assert re.search(rf"{re.escape(number['title'])} +{value} +{spread} +{floor} ", plain)
        assert number["fingerprint"] in plain


class Memory(Generator):
    """Paints a real digit of its class."""

    z_shape, num_levels, num_classes = (1,), 1, 10

    def __init__(self) -> None:
        super().__init__()
        images = read_into_memory(open_source("digits", SOURCES), 0, is_shown=False)
        self.images, self.labels = images.images[:, :1].float() / 127.5 - 1, images.labels
        self.register_parameter("device", torch.nn.Parameter(torch.zeros(1)))

    def map(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = [(self.labels == label).nonzero()[:, 0] for label in labels.tolist()]
        share = torch.special.ndtr(z[:, 0])
        chosen = [own[int(s * len(own))] for own, s in zip(rows, share.tolist(), strict=True)]
        return self.images[torch.stack(chosen)]

    def synthesize(self, w: torch.Tensor) -> torch.Tensor:
        return w[:, None]


class TruncatedMemory(Memory):
    """Truncation pulls a digit towards the mean of its class."""

    def truncate(self, w: torch.Tensor, labels: torch.Tensor, psi: float) -> torch.Tensor:
        means = torch.stack([self.images[self.labels == i].mean(dim=0) for i in range(10)])
        return torch.lerp(means[labels], w, psi)


def test_the_sweep_orders_truncations(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gan = package.load(run)
    plain, gan = (GAN(g, gan.autoencoder, gan.card) for g in (Memory(), TruncatedMemory()))
    monkeypatch.setattr(inputs, "load", lambda *_: gan)
    assert usable_truncations(plain, [0.5]) == [None]
    psis = usable_truncations(gan, [0.6, 1.0, 0.2, 0.6])
    assert psis == [0.2, 0.6, None]
    found = Measurements(psis)
    measure_sweep(found, Request(str(run), options=ImageOptions(num=600)), ALONE)
    assert not found.missing
    assert list(found.sweep) == psis
    values = {
        name: [next(n.value for n in numbers if n.name == name) for numbers in found.sweep.values()]
        for name in ("fd", "recall", "precision")
    }
    assert values["fd"] == sorted(values["fd"], reverse=True), values
    assert values["recall"] == sorted(values["recall"]), values
    assert values["recall"][0] < 0.2 < 0.7 < values["recall"][2], values
    # What it paints is a training image: the nearest one is that image itself.
    assert found.nearest is not None
    assert torch.equal(found.nearest.images[:, 0], gan.sample(NUM_SAMPLES))
    assert (found.nearest.distances[:, 0] == 0).all() and (found.nearest.distances[:, 1] > 0).all()
    assert next(n.value for n in found.numbers if n.name == "copied_share") == 1


def snapshot(path: Path, model: Any, names: Sequence[str]) -> Path:
    card = Card("<b>bold</b>", model, AutoencoderConfig(), (1, 8, 8), list(names), step=3)
    torch.manual_seed(0)
    save_snapshot(path, card, build_generator(card), None)
    return path


LADAGAN = LadaGANConfig(
    z_width=4, base=4, widths=(16, 8), num_heads=(2, 2), hidden_widths=(8, 8),
    encoder_widths=(8, 8), out_widths=(8, 8),
)  # fmt: skip


def test_one_level_one_truncation_no_classes(run: Path, tmp_path: Path) -> None:
    path = snapshot(tmp_path / "lada", LADAGAN, [])
    classifier = ["--features", f"classifier:{run / 'classifier'}", "--against", "digits"]
    out = tmp_path / "out" / "page.html"
    report(str(path), "--num", "30", "--truncations", "1", *classifier, "--out", str(out))
    plain = text_of(out)
    for phrase in (
        "has one level",
        "has no truncation, or none was asked for",
        "knows no classes: seeds 0 to 63",
        "`accuracy` needs labels of the fake images",
        "There is no config.toml",
        "There are none: metrics.jsonl",
        "A snapshot alone",
        "FD (classifier ",
    ):
        assert phrase in plain, phrase
    assert "per-class" in plain and (tmp_path / "out" / "page.md").is_file()


def test_thresholds_of_noise(run: Path, tmp_path: Path) -> None:
    model = BigGANConfig(channels=4, z_width=8, shared_width=0, is_hierarchical=False)
    card = Card("big", model, AutoencoderConfig(), (1, 32, 32), ["a", "b"])
    path = tmp_path / "big"
    save_snapshot(path, card, build_generator(card), None)
    gan = package.load(path)
    assert usable_truncations(gan, [1.0, 0.5]) == [0.5, 1.0, None], "a threshold of 1 truncates"
    # What is evaluated is what is sampled: calibrated for the threshold, or not truncated at all.
    for psi in (None, 0.5):
        shown = next(
            inputs.open_stream(str(path), ImageOptions(num=6, truncation=psi), ALONE).batches
        )
        assert torch.equal(shown.images, gan.sample(6, truncation=psi))


@pytest.mark.parametrize(
    ("without", "arguments", "phrase"),
    [
        (("classifier",), (), "no --features are named, and "),
        ((), ("--against", "nowhere"), "neither a file nor a folder"),
        (("snapshots",), (), "There is no snapshot yet to draw from"),
        (("environment.json", "samples", "metrics.jsonl"), ("--num", "0"), "There are none"),
    ],
)
def test_what_is_missing_is_said(
    without: tuple[str, ...], arguments: tuple[str, ...], phrase: str, run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Path, "home", lambda: tmp_path)  # no weights lie in its caches
    folder = copy(run, tmp_path / "run", *without)
    report(str(folder), "--num", "20", *arguments)
    assert phrase in text_of(folder / "report.html")
    assert re.findall("<h2>(.*?)</h2>", (folder / "report.html").read_text()) == PARTS


@pytest.mark.parametrize(
    ("duration", "progress"), [("9 steps", "4 of 9 steps"), ("3 minutes", r"\d+ s of 3 minutes")]
)
def test_a_run_that_still_trains(duration: str, progress: str, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path / "run", "step-00000004")
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('"4 steps"', f'"{duration}"'))
    report(str(folder), "--num", "0")
    plain = text_of(folder / "report.html")
    assert re.search(f"has not reached its end: {progress}", plain)
    assert "of the newest snapshot, step 2; the curves go on to step 4" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "`nowhere` does not exist"),
        (["{run}", "--truncations", "0.5;1"], "expected numbers such as"),
        (["{run}", "--num", "-1"], "expected 0 or more"),
        (["{run}", "--out", "page.pdf"], "expected a file named something.html"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", *(word.format(run=run) for word in arguments)])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("width", [400, 1200])
def test_in_a_browser(run: Path, tmp_path: Path, width: int) -> None:
    found = render(run / "report.html", width, tmp_path)
    assert found["headings"] == ["digits", *PARTS]
    assert len(found["images"]) > 8 and min(found["images"]) > 0
    assert len(found["plots"]) >= 4 and min(found["plots"]) > 100
    assert found["width"] == width, "something is wider than the screen"
    assert found["console"] == [] and found["scripts"] == 0


def test_names_of_classes_are_text_in_a_browser(run: Path, tmp_path: Path) -> None:
    names = [HOSTILE, "W" * 300, "</style>"]
    path = snapshot(tmp_path / "snapshot", LADAGAN, names)
    report(str(path), "--num", "0")
    assert HOSTILE in text_of(path / "report.html") or "alert(1)" in text_of(path / "report.html")
    found = render(path / "report.html", 400, tmp_path)
    assert found["headings"][0] == found["title"] == "<b>bold</b>"
    assert found["scripts"] == 0 and found["width"] == 400 and found["console"] == []
