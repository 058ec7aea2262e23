"""Weights of the reference under its own names: what is taken, and what the messages say."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.convert import ladagan
from scalegan.convert.renaming import rename
from scalegan.errors import CheckpointError
from tests.support.reference_settings import load_reference

G_CONFIG = {"img_size": 64, "dim": [16, 8, 4], "noise_dim": 6, "heads": 2, "mlp_dim": [9, 8, 7]}
D_CONFIG = {"img_size": 32, "enc_dim": [4, 8], "out_dim": [5, 6], "heads": 2, "mlp_dim": 7}


def attention(width: int, heads: int = 2) -> dict[str, tuple[int, ...]]:
    return {
        "attn.to_qkv.weight": (3 * width, width), "attn.to_qkv.bias": (3 * width,),
        "attn.q_attn.weight": (heads, width), "attn.q_attn.bias": (heads,),
        "attn.to_out.weight": (width, width), "attn.to_out.bias": (width,),
    }  # fmt: skip


def feedforward(width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        "mlp.0.weight": (hidden, width), "mlp.0.bias": (hidden,),
        "mlp.2.weight": (width, hidden), "mlp.2.bias": (width,),
    }  # fmt: skip


def generator_weights() -> dict[str, Tensor]:
    """Shapes worked out by hand from the sizes of the networks."""
    shapes: dict[str, tuple[int, ...]] = {
        "init.0.weight": (64 * 16, 6), "conv_256.weight": (8, 4, 3, 3), "conv_256.bias": (8,),
        "conv_1024.weight": (4, 2, 3, 3), "conv_1024.bias": (4,),
        "ch_conv.weight": (3, 1, 3, 3), "ch_conv.bias": (3,),
    }  # fmt: skip
    for tokens, width, hidden in ((64, 16, 9), (256, 8, 8), (1024, 4, 7)):
        shapes[f"pos_{tokens}"] = (1, tokens, width)
        block = attention(width) | feedforward(width, hidden)
        for norm in ("ln_1", "ln_2"):
            block |= {f"{norm}.h.0.weight": (width, 6), f"{norm}.h.0.bias": (width,)}
            for part in ("mlp_gamma", "mlp_beta"):
                block |= {f"{norm}.{part}.weight": (width, width), f"{norm}.{part}.bias": (width,)}
        shapes |= {f"block_{tokens}.{key}": shape for key, shape in block.items()}
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def discriminator_weights() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "inp_conv.0.weight": (4, 3, 3, 3), "pos_256": (1, 256, 8),
        "conv_256.weight": (5, 32, 3, 3), "conv_256.bias": (5,),
        "logits.0.weight": (6, 5, 1, 1), "logits.2.weight": (1, 6, 4, 4),
        "encoder.0.main.0.weight": (8, 4, 3, 3), "encoder.0.main.3.weight": (8, 8, 3, 3),
        "encoder.0.direct.1.weight": (8, 4, 1, 1),
    }  # fmt: skip
    block = attention(8) | feedforward(8, 7)
    block |= {f"ln_{i}.{kind}": (8,) for i in (1, 2) for kind in ("weight", "bias")}
    shapes |= {f"block_256.{key}": shape for key, shape in block.items()}
    counts = {}
    for norm in ("main.1", "main.4", "direct.2"):
        names = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"encoder.0.{norm}.{name}": (8,) for name in names}
        counts[f"encoder.0.{norm}.num_batches_tracked"] = torch.tensor(7)
    return {key: torch.rand(shape) for key, shape in shapes.items()} | counts


CASES: list[Any] = [
    ("generator", G_CONFIG, generator_weights),
    ("discriminator", D_CONFIG, discriminator_weights),
]
Weights = Callable[[], dict[str, Tensor]]


@pytest.mark.parametrize(("role", "config", "weights"), CASES)
def test_every_tensor_is_taken(role: str, config: dict[str, Any], weights: Weights) -> None:
    given = weights()
    network = load_reference("ladagan", role, config, given)
    names = ladagan.GENERATOR if role == "generator" else ladagan.discriminator_names(1)
    ours = network.state_dict()
    assert not network.training and len(ours) == len(given)
    for key, value in given.items():
        assert torch.equal(ours[rename(names, key, "network")], value), key


@pytest.mark.parametrize(("role", "config", "weights"), CASES)
def test_a_tensor_too_few_too_many_or_of_another_shape(
    role: str, config: dict[str, Any], weights: Weights
) -> None:
    given = weights()
    key = next(name for name in given if "mlp.0.weight" in name)
    with pytest.raises(CheckpointError, match=r"has no tensor for `blocks\.\d\.feedforward"):
        load_reference(
            "ladagan", role, config, {name: value for name, value in given.items() if name != key}
        )
    with pytest.raises(CheckpointError, match=r"^`foo` is not the name of a tensor of a ladagan "):
        load_reference("ladagan", role, config, given | {"foo": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=rf"has \(2,\) for `{re.escape(key)}`; expected \("):
        load_reference("ladagan", role, config, given | {key: torch.zeros(2)})
    with pytest.raises(CheckpointError, match=rf"`{re.escape(key)}` is torch\.int64; expected tor"):
        load_reference("ladagan", role, config, given | {key: given[key].long()})


def test_a_down_block_too_many() -> None:
    given = discriminator_weights() | {"encoder.3.main.0.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"for `encoder\.3\.main\.0\.weight`; expected none$"):
        load_reference("ladagan", "discriminator", D_CONFIG, given)
