"""Every command and every block of Python in README and docs runs, made tiny."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed.run import get_args_parser

from scalegan.autoencoders.tiny import TAEF2
from scalegan.cli import main
from scalegan.reports import compare
from scalegan.runtime.files import save_tensors
from scalegan.train import loop
from tests.parity import test_load_reference as of_gat
from tests.support.fork_server import fork_server
from tests.support.runs import TINY, scalegan
from tests.unit.convert import test_biggan as of_biggan
from tests.unit.convert import test_gansformer as of_gansformer
from tests.unit.convert import test_ladagan as of_ladagan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIT = ["--duration", "2 steps", "--width", "8", "--batch-size", "8"]
QUICK = ["--train.duration", "2 steps", "--evaluate.num-images", "0"]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            found.append((page.name, text))
    return found


COMMANDS = [
    (page, line)
    for page, text in blocks("bash")
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]
JOURNEY = "latents.md"
"""Its commands build on each other and run in order; those of other pages stand alone."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs and files that the documents speak of."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("demo", "digits", "first", "mine"):
        duration = ["--train.duration", "1 step"]
        scalegan("train", "digits", "--run", str(folder / "runs" / name), *TINY, *duration)
    scalegan("train", "digits-gansformer", "--run", str(folder / "runs" / "gansformer"), *QUICK)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images, np.arange(80) % 4)
    for i, image in enumerate(images):
        path = folder / "images" / f"class {i % 4}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    shards = str(folder / "shards" / "mine")
    with contextlib.chdir(folder):  # a preparation knows its source as it was given
        options = ["--size", "8", "--shard-rows", "40", "--workers", "1"]
        scalegan("prepare", "images", shards, *options)
    classifier = str(folder / "classifiers" / "first")
    scalegan("classifier", "train", "digits", classifier, "--images-seen", "2000")
    shutil.copytree(folder / "classifiers" / "first", folder / "runs" / "demo" / "classifier")
    save_foreign(folder / "weights")
    out = ["--factor", "2", "--out", str(folder / "autoencoders" / "first")]
    scalegan("autoencoder", "train", "digits", *out, *FIT)
    with contextlib.chdir(folder):
        latents = ["--autoencoder", "autoencoders/first", "--keep-images", "--workers", "1"]
        scalegan("prepare", "digits", "shards/digits-latents", *latents)
    return folder


def save_foreign(folder: Path) -> None:
    """Small weights as other implementations name theirs."""
    hub = of_biggan.HUB | {"layers": [[False, 4, 4], [True, 4, 4]] * 2}
    files = {
        "gat/latest.pt": {"ema": of_gat.generator_weights()},
        "ladagan/checkpoint.pt": {"G_ema": of_ladagan.generator_weights()},
        "biggan/G_ema.pth": of_biggan.port_weights(of_biggan.PORT),
        "biggan-deep/pytorch_model.bin": of_biggan.hub_weights(hub),
        "gansformer/network.pt": {"G_ema": of_gansformer.generator_weights()},
    }
    for name, weights in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights, folder / name)
    (folder / "biggan-deep" / "config.json").write_text(json.dumps(hub))
    (_, stated), *_ = blocks("json")
    (folder / "gansformer" / "model.json").write_text(stated)


@pytest.mark.parametrize(("page", "line"), [pair for pair in COMMANDS if pair[0] != JOURNEY])
def test_command(
    page: str, line: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    words = shlex.split(line)
    if words[0] == "source":
        return
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    if words[0] == "torchrun":
        # Its own parser reads the line; end_to_end/test_train_and_use starts the real one.
        options = get_args_parser().parse_args(words[1:])
        assert options.module and options.training_script == "scalegan"
        arguments = options.training_script_args
        if arguments[0] == "train":
            arguments = [*arguments, *TINY, *QUICK]
        fork_server().run(arguments, int(options.nproc_per_node))
        return
    assert words[0] == "scalegan", f"{page}: the test does not know how to run `{line}`"
    if words[1] == "train" and "--dry-run" not in words:
        quick = QUICK[:2] if "--every.evaluate" in words else QUICK
        words = [*words[:3], *TINY, *words[3:], *quick] if words[2] == "digits" else words + quick
        if "--run" in words:  # a folder of its own, with what the documents say is there
            run = Path(words[words.index("--run") + 1])
            is_resumed = run.name == "first" and "30 epochs" in words
            if not is_resumed:
                words[words.index("--run") + 1] = str(tmp_path / run.name)
        else:
            words += ["--run", str(tmp_path / "run")]
    if words[1] in ("compare", "study"):
        monkeypatch.setattr(compare, "TRIAL_SECONDS", 0.01)
        words[words.index("--budget") + 1] = "5 GFLOP" if words[2] == "latents" else "2 steps"
        words += ["--points", "1", "--evaluate.num-images", "40", "--evaluate.metrics", "fid"]
    if words[1] == "study":
        monkeypatch.setattr(loop, "plot_curves", lambda run: None)
        words += ["--evaluate.features", "classifier:classifiers/first"]
        words += ["--model.depth", "2", "--model.num-levels", "2"]
        words += ["--out", str(tmp_path / "study"), "--seeds", "0"]
    if words[1] == "autoencoder" and not {"--help", "linear"} & {*words}:
        words += FIT
    main(words[1:]) if words[1] == "--help" else exits_well(words[1:])


def test_journey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From images to latents to images, on a few small images and an untrained TAEF2."""
    save_collections(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _, line in (pair for pair in COMMANDS if pair[0] == JOURNEY):
        words = shlex.split(line)
        if words[1] == "train":
            words += [*TINY, *QUICK]
        words += FIT if words[1] == "autoencoder" else []
        words += ["--workers", "1"] if words[1] == "prepare" else []
        exits_well(words[1:])


def save_collections(folder: Path) -> None:
    """CIFAR-10 as parquet, photographs in class folders and weights, as the journey names them."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    feature = {"image": {"_type": "Image"}, "label": {"names": list("abcd"), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    for name, count in (("cifar10/train", 32), ("cifar10/test", 16), ("cifar10-small/test", 16)):
        images = [noise(rng, 32, 32) for _ in range(count)]
        rows = {
            "image": [{"bytes": data, "path": f"{name}/{i}"} for i, data in enumerate(images)],
            "label": [i % 4 for i in range(count)],
        }
        table = pa.table(rows).replace_schema_metadata(metadata)
        path = folder / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    for i in range(16):
        path = folder / "data" / "photos" / f"n{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(rng, 130, 140))
    torch.manual_seed(0)
    network, weights = TAEF2(), folder / "weights" / "taef2"
    weights.mkdir(parents=True)
    save_tensors(network.encoder.state_dict(), weights / "encoder.safetensors")
    save_tensors(network.decoder.state_dict(), weights / "decoder.safetensors")


def noise(rng: np.random.Generator, height: int, width: int) -> bytes:
    out = io.BytesIO()
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def exits_well(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python(page: str, text: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(text, page, "exec"), {"__name__": "__main__"})


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), target
