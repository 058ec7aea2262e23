"""Each system from training to use, on pixels and latents, with and without classes."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

import scalegan as package
from scalegan.config.schema import AutoencoderConfig, Config, DataConfig, EvaluateConfig
from scalegan.errors import ConfigError
from scalegan.inference.views import views
from scalegan.interfaces import TruncatesNoise, TruncatesStyle
from scalegan.planning.cost import count
from scalegan.planning.plan import DEVICES, make_plan, read_task
from scalegan.reports.summary import summarize
from scalegan.runtime.log import read_metrics
from scalegan.train.loop import train
from tests.support import runs, systems

VIEWS = {
    "gat": {"levels"},
    "ladagan": {"tokens"},
    "biggan": set[str](),
    "gansformer": {"mixing", "components"},
    systems.SCALES: {"levels"},
}


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[DataConfig, AutoencoderConfig]]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "pixels": (systems.save_images(folder / "small.npz"), AutoencoderConfig()),
        "latents": systems.latents(folder),
    }


def of(name: str, found: tuple[DataConfig, AutoencoderConfig], conditional: bool) -> Config:
    source, autoencoder = found
    settings = replace(source, conditional=conditional)
    return systems.config(name, settings, autoencoder=autoencoder)


QUICK = {("gat", "pixels", False), ("ladagan", "latents", True), ("biggan", "pixels", True),
         ("gansformer", "pixels", False)}  # fmt: skip
"""The other combinations are slow ones."""
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in product(systems.NAMES, ("pixels", "latents"), (True, False))
] + [(systems.SCALES, "pixels", True)]


@pytest.mark.parametrize(("name", "kind", "conditional"), CASES)
def test_from_training_to_use(
    name: str,
    kind: str,
    conditional: bool,
    data: dict[str, tuple[DataConfig, AutoencoderConfig]],
    tmp_path: Path,
) -> None:
    config = of(name, data[kind], conditional)
    train(config, tmp_path / "straight", "cpu")
    half = replace(config, train=replace(config.train, duration="2 steps"))
    train(half, tmp_path / "run", "cpu")
    train(config, tmp_path / "run", "cpu")
    first, second = (runs.hashes(tmp_path / run, 4) for run in ("straight", "run"))
    assert first == second, "a resumed run has the same bits"

    gan = package.load(tmp_path / "run")
    side, names = (8, 32)[kind == "latents"], gan.card.class_names
    assert len(names) == (3 if conditional else 0) and gan.generator.num_classes == len(names)
    whole = gan.sample(5, seed=3)
    assert whole.shape == (5, 3, side, side)
    parts = torch.cat([gan.sample(1, seed=seed) for seed in range(3, 8)])
    # A product may be rounded otherwise in a batch of another size.
    assert (whole.int() - parts.int()).abs().max() <= 1, "an image depends on its seed alone"
    if isinstance(gan.generator, TruncatesStyle | TruncatesNoise):
        assert not torch.equal(gan.sample(5, truncation=0.3, seed=3), whole)
    walk = gan.interpolate((3, 4), steps=3)
    assert (walk[[0, -1]].int() - whole[:2].int()).abs().max() <= 1, "both ends are samples"
    if conditional:
        assert gan.interpolate((3, 3), (names[0], names[2]), steps=3, truncation=0.5).shape[0] == 3
    else:
        with pytest.raises(ConfigError, match="there is no class `0`"):
            gan.sample(1, classes=[0])
    found = {view.name for view in views(gan, count=2)}
    always = {"samples", "walk", "truncation"} | ({"classes"} if conditional else set())
    assert found == always | VIEWS[name]

    task = read_task(config)
    counts = count(config, task)
    sizes = [sum(t.numel() for t in network.state_dict().values()) for network in (gan.generator,)]
    assert counts.generator == sizes[0] and 0 < counts.generator_forward < counts.step
    plan = make_plan(config, task, DEVICES["h100"])
    assert plan.steps == 4 and plan.counts == counts and plan.task.num_classes == len(names)
    lines = "\n".join(summarize(tmp_path / "run"))
    parameters = sum(p.numel() for p in gan.generator.parameters())
    assert f"{parameters:,} parameters, {counts.generator_forward / 1e9:.3f} GFLOP" in lines


@pytest.mark.parametrize(
    "name", ["gat", *(pytest.param(name, marks=pytest.mark.slow) for name in systems.NAMES[1:])]
)
def test_without_classes_none_can_be_right(name: str, tmp_path: Path) -> None:
    from scalegan.evaluation.evaluate import Request, evaluate
    from scalegan.evaluation.images import ImageOptions
    from scalegan.runtime.world import World

    source = systems.save_images(tmp_path / "small.npz", count=32)
    settings = replace(source, conditional=False)
    measured = EvaluateConfig(num_images=16, metrics="fid,accuracy")
    config = systems.config(name, settings, steps=1, evaluate=measured)
    ended = train(config, tmp_path / "run", "cpu")
    assert [number.name for number in ended.numbers] == ["fd"]
    (line,) = [line for line in read_metrics(tmp_path / "run") if "fingerprint" in line]
    assert "evaluate/accuracy" not in line
    world, options = World(0, 1, torch.device("cpu")), ImageOptions(num=16)
    request = Request(str(tmp_path / "run"), metrics="fid", options=options)
    (again,) = evaluate(request, world)
    assert again.value == pytest.approx(ended.numbers[0].value, rel=1e-3)
    with pytest.raises(ConfigError, match="`accuracy` needs"):
        evaluate(replace(request, metrics="accuracy"), world)
