"""What is written is read back, and nothing unknown passes."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.config.models import GAT_SIZES, GATConfig
from scalegan.config.objective import (
    AlignmentConfig,
    AugmentConfig,
    NoiseConfig,
    ObjectiveConfig,
    PenaltyConfig,
)
from scalegan.config.reading import parse, resolve, setting_names, to_toml
from scalegan.config.schema import (
    Config,
    DataConfig,
    EvaluateConfig,
    EveryConfig,
    OptimConfig,
    TrainConfig,
)
from scalegan.errors import ConfigError

COUNT = st.integers(1, 10**6)
SHARE = st.floats(0, 1)
AMOUNT = st.floats(0, 1e9)
POSITIVE = st.floats(1e-12, 1e9)
DECAY = st.floats(0, 1, exclude_max=True)
DURATION = st.builds(
    "{}{} {}".format,
    st.integers(1, 999),
    st.sampled_from(["", "k", "M"]),
    st.sampled_from(["steps", "images", "epochs"]),
)
SIZES = st.sampled_from(["", *GAT_SIZES])
CONFIGS = st.builds(
    Config,
    name=st.text(),
    seed=st.integers(0, 2**63 - 1),
    model=st.builds(
        GATConfig, size=SIZES, width=COUNT, depth=COUNT, num_heads=COUNT, patch_size=COUNT,
        mlp_ratio=POSITIVE, num_levels=COUNT, z_width=COUNT, style_decay=DECAY,
    ),
    data=st.one_of(
        st.builds(DataConfig, source=st.text(min_size=1)),
        st.builds(DataConfig, source=st.just(""), shards=st.text(min_size=1)),
    ),
    objective=st.builds(
        ObjectiveConfig,
        penalty=st.builds(PenaltyConfig, r1=AMOUNT, r2=AMOUNT, every=COUNT, sigma=POSITIVE),
        noise=st.builds(
            NoiseConfig, min_information=st.floats(0.1, 1), floor=st.floats(0, 0.099)
        ),
        augment=st.builds(AugmentConfig, color=SHARE, translation=SHARE, cutout=SHARE, flip=SHARE),
        alignment=st.builds(AlignmentConfig, weight=POSITIVE, features=COUNT, side=COUNT),
    ),
    optim=st.builds(
        OptimConfig, learning_rate=POSITIVE, betas=st.tuples(DECAY, DECAY), eps=POSITIVE,
        weight_decay=AMOUNT, max_grad_norm=POSITIVE,
    ),
    train=st.builds(
        TrainConfig, duration=DURATION, batch_size=COUNT, micro_batches=COUNT,
        share_noise=st.booleans(), ema_decay=DECAY,
        precision=st.sampled_from(["float32", "bfloat16"]), threads=st.integers(0, 64),
    ),
    every=st.builds(
        EveryConfig,
        log=DURATION,
        samples=DURATION,
        checkpoint=DURATION,
        evaluate=st.one_of(st.just(""), DURATION),
    ),
    evaluate=st.builds(EvaluateConfig, num_images=st.integers(1, 10**6), seconds=POSITIVE),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(CONFIGS)
def test_what_is_written_is_read_back(config: Config) -> None:
    assert parse(tomllib.loads(to_toml(config))) == config
    resolved = resolve(config)
    assert parse(tomllib.loads(to_toml(resolved))) == resolved
    assert resolve(resolved) == resolved


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(setting_names()), st.text(st.characters(categories=["Ll"]), min_size=1))
def test_unknown_keys_never_pass(name: str, letters: str) -> None:
    *parts, key = f"{name}{letters}".split(".")
    if ".".join([*parts, key]) in setting_names():
        return
    values: dict[str, Any] = {key: 1}
    for part in reversed(parts):
        values = {part: values}
    with pytest.raises(ConfigError, match=r"^unknown key `"):
        parse(values)
