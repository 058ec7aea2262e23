"""GANsformer's weights under their own names: what is taken, and what the messages say."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.convert import gansformer as reference
from scalegan.errors import CheckpointError
from scalegan.layers.bipartite import direction_table
from scalegan.models.gansformer import GANsformerDiscriminator, GANsformerGenerator
from tests.support.reference_settings import load_reference

ROW = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
FILTER = torch.outer(ROW, ROW)
OF_GENERATOR: dict[str, Any] = {
    "z_dim": 4, "w_dim": 4, "k": 3, "c_dim": 0, "img_resolution": 8, "img_channels": 2,
    "mapping_kwargs": {"num_layers": 2, "transformer": True, "resnet": True},
    "synthesis_kwargs": {
        "channel_base": 48, "channel_max": 6, "transformer": True, "kmeans": True, "end_res": 3,
        "architecture": "resnet", "integration": "mul", "norm": "layer",
    },
}  # fmt: skip
OF_DISCRIMINATOR: dict[str, Any] = {
    "c_dim": 3, "img_resolution": 8, "img_channels": 2, "channel_base": 48, "channel_max": 6
}  # fmt: skip


def generator_weights() -> dict[str, Tensor]:
    """Shapes worked out by hand from the sizes of the networks."""
    shapes: dict[str, tuple[int, ...]] = {
        "mapping.w_avg": (4,), "pos": (2, 4), "synthesis.b4.const": (6, 4, 4),
        "synthesis.b8.skip.weight": (6, 6, 1, 1),
    }  # fmt: skip
    for part in ("mlp", "global_mlp"):
        for layer in ("l0.fc0", "l0.fc1", "out_layer"):
            shapes |= linear(f"mapping.{part}.{layer}", 4, 4)
    for part, side in (("b4.conv1", 4), ("b8.conv0", 8), ("b8.conv1", 8), ("b8.conv_last", 0)):
        shapes[f"synthesis.{part}.weight"] = (6, 6, 3, 3)
        shapes |= linear(f"synthesis.{part}.affine", 4, 6)
        if side:
            shapes[f"synthesis.{part}.noise_const"] = (side, side)
            shapes[f"synthesis.{part}.noise_strength"] = ()
            shapes[f"synthesis.{part}.biasAct.bias"] = (6,)
    shapes |= linear("synthesis.b8.torgb.affine", 4, 6)
    shapes |= {"synthesis.b8.torgb.weight": (2, 6, 1, 1), "synthesis.b8.torgb.biasAct.bias": (2,)}
    look = "synthesis.b4.conv1.transformer"
    for name, inputs in (("to_queries", 6), ("to_keys", 4), ("to_values", 4), ("modulation", 6)):
        shapes |= linear(f"{look}.{name}", inputs, 6)
    shapes |= linear(f"{look}.from_pos_map", 4, 6) | linear(f"{look}.to_pos_map", 4, 6)
    shapes |= {f"{look}.centroids": (1, 1, 2, 12), f"{look}.att_weight": (1, 1, 12)}
    constants = {
        "synthesis.b4.conv1.grid_pos": direction_table(4, 4).view(4, 4, 4),
        "synthesis.b8.skip.resample_kernel": FILTER,
    }
    return {key: torch.randn(shape) for key, shape in shapes.items()} | constants


def discriminator_weights() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "b8.fromrgb.weight": (6, 2, 1, 1), "b8.fromrgb.biasAct.bias": (6,),
        "b8.conv0.weight": (6, 6, 3, 3), "b8.conv0.biasAct.bias": (6,),
        "b8.conv1.weight": (6, 6, 3, 3), "b8.conv1.biasAct.bias": (6,),
        "b8.skip.weight": (6, 6, 1, 1), "b4.conv.weight": (6, 7, 3, 3),
        "b4.conv.biasAct.bias": (6,),
    }  # fmt: skip
    shapes |= linear("b4.fc", 96, 6) | linear("b4.out", 6, 3)
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def test_every_tensor_of_a_generator_arrives_but_those_without_effect() -> None:
    weights = generator_weights()
    network = load_reference("gansformer", "generator", OF_GENERATOR, weights)
    assert isinstance(network, GANsformerGenerator) and not network.training
    ours = network.state_dict()
    dead = ("to_keys", "to_pos_map", "resample_kernel", "grid_pos", "pos")
    alive = [value for key, value in weights.items() if not any(name in key for name in dead[:4])]
    assert len(ours) == len(alive)  # `pos` is not read either, and `updates` is ours
    assert torch.equal(ours["blocks.1.layers.0.conv.weight"], weights["synthesis.b8.conv0.weight"])
    w = network.map(torch.randn(2, 3, 4), torch.zeros(2, dtype=torch.int64))
    mean = weights["mapping.w_avg"].expand_as(w)
    assert torch.equal(network.truncate(w, torch.zeros(2, dtype=torch.int64), 0.0), mean)


def test_every_tensor_of_a_discriminator_arrives() -> None:
    weights = discriminator_weights()
    network = load_reference("gansformer", "discriminator", OF_DISCRIMINATOR, weights)
    assert isinstance(network, GANsformerDiscriminator)
    ours = network.state_dict()
    assert len(ours) == len(weights)
    for key, value in weights.items():
        assert torch.equal(ours[reference.rename_discriminator(key, 8)], value)


def test_an_unstyled_generator_leaves_its_styles_out() -> None:
    """The reference keeps affine maps, unused; the mean of the latents reads its global mapping."""
    synthesis = OF_GENERATOR["synthesis_kwargs"] | {"style": False}
    network = load_reference(
        "gansformer",
        "generator",
        OF_GENERATOR | {"synthesis_kwargs": synthesis},
        generator_weights(),
    )
    assert not any("affine" in name for name in network.state_dict())
    assert any("for_global" in name for name in network.state_dict())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "synthesis.b8.conv0.weight",
            None,
            "the gansformer generator has no tensor for `blocks.1.layers.0",
        ),
        (
            "mapping.mlp.l1.fc0.bias",
            torch.zeros(4),
            "the gansformer generator has (4,) for `mapping.mlp.l1.fc0.bias`",
        ),
        (
            "mapping.w_avg",
            torch.zeros(5),
            "the gansformer generator has (5,) for `mapping.w_avg`; expected (4,)",
        ),
        (
            "synthesis.b4.conv1.grid_pos",
            torch.zeros(4, 4, 4),
            "`synthesis.b4.conv1.grid_pos` is not the constant that we compute",
        ),
        (
            "synthesis.b8.skip.resample_kernel",
            torch.ones(3, 3) / 9,
            "`synthesis.b8.skip.resample_kernel` is not the constant that we compute",
        ),
    ],
)
def test_wrong_tensors_are_named(key: str, value: Tensor | None, message: str) -> None:
    weights = generator_weights()
    if value is None:
        del weights[key]
    else:
        weights[key] = value
    with pytest.raises(CheckpointError) as error:
        load_reference("gansformer", "generator", OF_GENERATOR, weights)
    assert str(error.value).startswith(message)
