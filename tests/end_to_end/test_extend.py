"""Everything that can be added from outside the package is added, and a run trains with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from torch import Tensor, nn

import scalegan
from scalegan.autoencoders.pixels import Identity
from scalegan.autoencoders.tables import AUTOENCODERS, Kind
from scalegan.config.models import MODELS, ModelConfig
from scalegan.config.reading import parse, read, resolve, to_toml
from scalegan.config.schema import AutoencoderConfig, Config
from scalegan.data.sources import Source, SourceImage
from scalegan.data.tables import SOURCES
from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Field
from scalegan.evaluation.measure import Metric
from scalegan.evaluation.tables import METRICS
from scalegan.interfaces import Discriminator, DiscriminatorOutput, Generator
from scalegan.losses.adversarial import Pair
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.tables import ARCHITECTURES, Architecture
from scalegan.runtime.log import read_metrics
from scalegan.train.loop import train
from scalegan.train.optim import learning_rate

CLASSES, SIDE = ("small", "large"), 8


@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    """Two networks of one hidden layer each."""

    architecture: Literal["toy"] = "toy"
    """Name of the pair of networks."""
    width: int = 16
    """Channels of the hidden layer."""


class ToyGenerator(Generator):
    num_levels = 1

    def __init__(self, config: ToyConfig, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.shape, self.num_classes, self.z_shape = shape, num_classes, (4,)
        self.labels = nn.Embedding(max(1, num_classes), 4)
        self.blocks = nn.ModuleList([nn.Linear(4, config.width)])
        self.head = nn.Linear(config.width, shape[0] * shape[1] * shape[2])

    def map(self, z: Tensor, labels: Tensor) -> Tensor:
        return z + self.labels(labels)

    def synthesize(self, w: Tensor) -> Tensor:
        return self.head(self.blocks[0](w).relu()).unflatten(1, (1, *self.shape)).tanh()


class ToyDiscriminator(Discriminator):
    def __init__(
        self, config: ToyConfig, shape: tuple[int, int, int], num_classes: int, features: int
    ) -> None:
        super().__init__()
        assert features == 0, "nothing of it is aligned"
        self.labels = nn.Embedding(max(1, num_classes), config.width)
        self.blocks = nn.ModuleList([nn.Linear(shape[0] * shape[1] * shape[2], config.width)])
        self.head = nn.Linear(config.width, 1)

    def forward(
        self, samples: Tensor, labels: Tensor, with_features: bool = False
    ) -> DiscriminatorOutput:
        x = self.blocks[0](samples[:, -1].flatten(1)).relu() * (1 + self.labels(labels))
        return DiscriminatorOutput(self.head(x).float(), None)


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return ((real_logits - 1).square() + fake_logits.square()).mean(1)


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    return (fake_logits - 1).square().mean(1)


class Inverted(Identity):
    """Pixels whose sign is turned around."""

    def sample(self, stored: Tensor) -> Tensor:
        return -super().sample(stored)

    def decode(self, samples: Tensor) -> Tensor:
        return super().decode(-samples)

    def identity(self) -> dict[str, Any]:
        return {"kind": "inverted", "factor": 1, "image_channels": self.shape[0]}


def inverted(config: AutoencoderConfig, channels: int, side: int) -> Inverted:
    return Inverted(channels, side)


def squares(where: str) -> Source:
    """White squares in a corner of black images, larger in the second class; `where` of them."""

    def read() -> Iterator[SourceImage]:
        for i in range(int(where)):
            image, label = np.zeros((SIDE, SIDE), np.uint8), i % len(CLASSES)
            image[: 2 + 3 * label, : 2 + 3 * label] = 255 - i
            yield SourceImage(f"square-{i:03d}", image, label)

    return Source(read, list(CLASSES))


def mean_gap(real: Tensor, fake: Tensor) -> float:
    """Distance between the mean features of real and of generated images."""
    return float((real.double().mean(0) - fake.double().mean(0)).norm())


@pytest.fixture
def additions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry in every table, taken out again after the test."""
    monkeypatch.setitem(MODELS, "toy", ToyConfig)
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture(ToyGenerator, ToyDiscriminator))
    least_squares = Pair(least_squares_discriminator, least_squares_generator, is_paired=False)
    monkeypatch.setitem(ADVERSARIAL, "least-squares", least_squares)
    monkeypatch.setitem(AUTOENCODERS, "inverted", Kind(inverted, factor=1))
    monkeypatch.setitem(SOURCES, "squares", squares)
    bank = (Field.BANK,)
    gap = Metric("mean-gap", "mean gap", "distance", mean_gap, bank, bank)
    monkeypatch.setitem(METRICS, "mean-gap", gap)


VALUES: dict[str, Any] = {
    "model": {"architecture": "toy", "width": 24},
    "autoencoder": {"kind": "inverted"},
    "data": {"source": "squares:40"},
    "objective": {
        "adversarial": "least-squares",
        "penalty": {"r1": 0.0, "r2": 0.0},
        "augment": {"color": 0.0, "translation": 0.0, "cutout": 0.0, "flip": 0.0},
    },
    "optim": {"learning_rate": 1e-3, "base_width": 96},
    "train": {"duration": "6 steps", "batch_size": 8, "threads": 1, "timeout_seconds": 0},
    "evaluate": {"num_images": 16, "metrics": "mean-gap"},
}


def test_a_run_trains_with_an_addition_to_every_table(additions: None, tmp_path: Path) -> None:
    config = resolve(parse(VALUES))
    assert read(write_to(tmp_path / "toy.toml", config)) == config
    assert learning_rate("generator", config) == pytest.approx(4e-3), "96 / 24 times the rate"

    result = train(config, tmp_path / "run", device="cpu")
    assert result.step == 6
    [number] = result.numbers
    assert number.title.startswith("mean gap") and number.value is not None and number.value > 0
    assert {"d/adversarial", "g/adversarial"} <= read_metrics(tmp_path / "run")[0].keys()

    gan = scalegan.load(tmp_path / "run")
    assert gan.sample(2, seed=0).shape == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("section", "key", "name", "choices"),
    [
        ("objective", "adversarial", "least-square", ADVERSARIAL),
        ("autoencoder", "kind", "inverse", AUTOENCODERS),
    ],
)
def test_a_name_that_no_table_holds_is_refused_before_data_is_read(
    section: str, key: str, name: str, choices: dict[str, Any], tmp_path: Path
) -> None:
    values = {"model": {"size": "tiny"}, "data": {"source": "no-such-folder"}, section: {key: name}}
    with pytest.raises(ConfigError) as caught:
        train(resolve(parse(values)), tmp_path / "run", device="cpu")
    expected = f'`{section}.{key}` is "{name}"; expected one of: {", ".join(choices)}'
    assert str(caught.value) == expected


def write_to(path: Path, config: Config) -> str:
    path.write_text(to_toml(config))
    return str(path)
