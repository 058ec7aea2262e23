from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.config import reading as configs
from scalegan.config.objective import AlignmentConfig, ObjectiveConfig
from scalegan.config.schema import Config, DataConfig, TrainConfig
from scalegan.errors import ConfigError, DataError
from scalegan.runtime.world import World
from scalegan.train.build import (
    build,
    build_networks,
    build_state,
    count_parameters,
)
from tests.support import tiny

ALONE = World(0, 1, tiny.CPU)
ALIGNED = ObjectiveConfig(alignment=AlignmentConfig(weight=1.0, features=5, side=8))


@pytest.fixture
def source(tmp_path: Path) -> DataConfig:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images, np.arange(10) % 3)
    return DataConfig(f"npz:{tmp_path / 'data.npz'}")


def config(source: DataConfig, batch_size: int = 8, micro_batches: int = 1) -> Config:
    return tiny.config(
        batch_size=batch_size, data=source, train=TrainConfig(micro_batches=micro_batches)
    )


def test_a_run_before_its_first_step(source: DataConfig) -> None:
    state, rows, images, held_out = build(config(source), ALONE)
    assert held_out is None
    assert (state.step, state.images_seen, state.attempt) == (0, 0, 0)
    assert state.autoencoder.shape == (3, 8, 8)
    assert rows.stored.shape == (10, 3, 8, 8) and rows.images is None
    assert images.class_names == ["0", "1", "2"]
    assert state.generator.num_classes == 3 and state.discriminator.projector is None


def test_the_average_starts_as_a_copy(source: DataConfig) -> None:
    state = build(config(source), ALONE).state
    for name, value in state.average.state_dict().items():
        other = state.generator.state_dict()[name]
        assert torch.equal(value, other) and value.data_ptr() != other.data_ptr(), name
    assert not any(parameter.requires_grad for parameter in state.average.parameters())
    assert not state.average.training


def test_weights_depend_on_the_seed_alone(source: DataConfig) -> None:
    torch.manual_seed(1)
    first = build(config(source), ALONE).state
    torch.manual_seed(2)
    again = build(config(source, batch_size=4), World(1, 2, tiny.CPU)).state
    other = build(replace(config(source), seed=1), ALONE).state
    for name in ("generator", "discriminator"):
        a, b, c = (dict(s.networks[name].named_parameters()) for s in (first, again, other))
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert not torch.equal(a["labels.weight"], c["labels.weight"])


def test_gray_images_have_one_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "gray.npz", np.zeros((4, 8, 8), np.uint8), np.zeros(4, int))
    built = build(config(DataConfig(f"npz:{tmp_path / 'gray.npz'}"), batch_size=4), ALONE)
    assert built.state.autoencoder.shape == (1, 8, 8)


def test_a_teacher_brings_projector_and_images(source: DataConfig) -> None:
    aligned = replace(config(source), objective=ALIGNED)
    state, rows, _, _ = build(aligned, ALONE, tiny.teacher)
    assert rows.images.shape == (10, 3, 8, 8)
    assert state.discriminator.projector[-1].out_features == 5


def test_teacher_and_weight_go_together(source: DataConfig) -> None:
    for of, teacher in ((config(source), tiny.teacher),
                        (replace(config(source), objective=ALIGNED), None)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"^alignment needs a weight and one teacher"):
            build(of, ALONE, teacher)


@pytest.mark.parametrize(
    ("batch_size", "micro_batches", "num_ranks", "message"),
    [
        (7, 2, 1, "`train.batch_size` 7 does not divide into 1 ranks of 2 micro-batches"),
        (6, 1, 4, "`train.batch_size` 6 does not divide into 4 ranks of 1 micro-batches"),
        (8, 3, 2, "`train.batch_size` 8 does not divide into 2 ranks of 3 micro-batches"),
        (11, 1, 1, "`train.batch_size` 11 is larger than the data set (10 images)"),
    ],
)
def test_batch_sizes_that_do_not_fit_are_refused(
    source: DataConfig, batch_size: int, micro_batches: int, num_ranks: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(config(source, batch_size, micro_batches), World(0, num_ranks, tiny.CPU))
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["digit", "folders:/data", ""])
def test_unknown_sources_are_refused(name: str) -> None:
    with pytest.raises(DataError) as caught:
        build(tiny.config(data=DataConfig(name)), ALONE)
    assert str(caught.value) == f"`{name}` is neither a file nor a folder, nor a source's name"


def test_count_parameters() -> None:
    assert count_parameters(torch.nn.Linear(3, 2)) == 8


def test_networks_of_a_config_are_a_pair() -> None:
    generator, discriminator = build_networks(tiny.config(), (1, 8, 8), 3)
    assert generator.num_levels * 1 == discriminator.patches.in_channels


@pytest.mark.parametrize(("name", "value"), [("recompute", "full"), ("parallel", "shard")])
def test_statistics_are_not_moved_twice(name: str, value: str) -> None:
    recipe = configs.resolve(configs.read("digits-biggan"))
    recipe = replace(recipe, train=replace(recipe.train, **{name: value}))
    with pytest.raises(ConfigError, match=rf"^`train\.{name}` is `{value}` but a forward pass of"):
        build_state(recipe, World(0, 1, torch.device("cpu")), Identity(1, 8), 10)


@pytest.mark.parametrize(
    ("recipe", "changes", "name"),
    [
        ("digits-biggan", {"train": {"style_mixing": 0.5}}, "train.style_mixing"),
        ("digits-ladagan", {"objective": {"orthogonal": 1e-4}}, "objective.orthogonal"),
    ],
)
def test_terms_that_a_generator_has_not_are_refused(
    recipe: str, changes: dict[str, dict[str, float]], name: str
) -> None:
    config = configs.resolve(configs.read(recipe))
    for part, values in changes.items():
        config = replace(config, **{part: replace(getattr(config, part), **values)})
    with pytest.raises(ConfigError, match=rf"^`{name}` is set but"):
        build_state(config, World(0, 1, torch.device("cpu")), Identity(1, 8), 10)
