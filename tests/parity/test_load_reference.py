"""Weights of a reference under its own names: what is taken, and what the messages say."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scalegan.config.models import GATConfig
from scalegan.convert import gat
from scalegan.convert.renaming import rename
from scalegan.errors import CheckpointError
from scalegan.models.gat import GATDiscriminator, GATGenerator
from tests.support.reference_settings import load_reference

CONFIG = {
    "hidden_size": 16, "depth": 4, "num_heads": 2, "patch_size": 2, "input_size": 4,
    "num_classes": 3, "latent_size": 6, "cmap_dim": 8, "projector_dim": 10, "z_dim": 5,
    "qk_norm": True, "fused_attn": False, "ffn_hidden": 42,
}  # fmt: skip


def generator_weights() -> dict[str, Tensor]:
    """Shapes worked out by hand from the sizes of the networks."""
    shapes = {
        "pos_embed": (1, 4, 16), "x_embedder.proj.weight": (16, 4, 2, 2),
        "x_embedder.proj.bias": (16,), "y_embedder.embedding_table.weight": (3, 6),
        "latent_embedder.0.weight": (16, 12), "latent_embedder.0.bias": (16,),
        "latent_embedder.2.weight": (16, 16), "latent_embedder.2.bias": (16,),
        "w_avg": (3, 16), "feat_rope.freqs_cos": (4, 8), "feat_rope.freqs_sin": (4, 8),
    }  # fmt: skip
    for i in range(4):
        shapes |= block(i) | {
            f"blocks.{i}.adaLN_modulation.1.weight": (64, 16),
            f"blocks.{i}.adaLN_modulation.1.bias": (64,),
            f"final_layers.{i}.linear.weight": (16, 16),
            f"final_layers.{i}.linear.bias": (16,),
            f"final_layers.{i}.adaLN_modulation.1.weight": (16, 16),
            f"final_layers.{i}.adaLN_modulation.1.bias": (16,),
        }
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def discriminator_weights() -> dict[str, Tensor]:
    shapes = {
        "pos_embed": (1, 4, 16), "cls_token": (1, 1, 16), "x_embedder.proj.weight": (16, 16, 2, 2),
        "x_embedder.proj.bias": (16,), "y_embedder.embedding_table.weight": (3, 8),
        "final_layer.0.weight": (16,), "final_layer.1.weight": (8, 16), "final_layer.1.bias": (8,),
        "feat_rope.freqs_cos": (4, 8), "feat_rope.freqs_sin": (4, 8),
    }  # fmt: skip
    for i in (0, 2):
        shapes[f"y_embedder.latent_embedder.{i}.weight"] = (8, 8)
        shapes[f"y_embedder.latent_embedder.{i}.bias"] = (8,)
    for i, (out, into) in {0: (10, 16), 2: (10, 10), 4: (5, 10)}.items():
        shapes |= {f"proj.{i}.weight": (out, into), f"proj.{i}.bias": (out,)}
    for i in range(4):
        shapes |= block(i)
        names = ("ls_attn", "ls_mlp", "norm1.weight", "norm2.weight")
        shapes |= {f"blocks.{i}.{name}": (16,) for name in names}
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def block(i: int) -> dict[str, tuple[int, ...]]:
    return {
        f"blocks.{i}.attn.qkv.weight": (48, 16), f"blocks.{i}.attn.qkv.bias": (48,),
        f"blocks.{i}.attn.q_norm.weight": (8,), f"blocks.{i}.attn.k_norm.weight": (8,),
        f"blocks.{i}.attn.proj.weight": (16, 16), f"blocks.{i}.attn.proj.bias": (16,),
        f"blocks.{i}.mlp.w12.weight": (84, 16), f"blocks.{i}.mlp.w12.bias": (84,),
        f"blocks.{i}.mlp.w3.weight": (16, 42), f"blocks.{i}.mlp.w3.bias": (16,),
    }  # fmt: skip


WEIGHTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "generator": generator_weights,
    "discriminator": discriminator_weights,
}
KINDS = {"generator": GATGenerator, "discriminator": GATDiscriminator}


@pytest.mark.parametrize("role", WEIGHTS)
def test_every_tensor_arrives(role: str) -> None:
    weights = WEIGHTS[role]()
    network = load_reference("gat", role, CONFIG, weights)
    assert isinstance(network, KINDS[role]) and not network.training
    names = {rename(gat.NAMES[role], key, "gat"): value for key, value in weights.items()}
    names.pop(None)
    ours = network.state_dict()
    assert set(ours) - set(names) == ({"style_updates"} if role == "generator" else set())
    assert all(torch.equal(ours[name], value) for name, value in names.items())


@pytest.mark.parametrize(("role", "table"), gat.NAMES.items())
def test_every_row_of_the_table_is_used_once(role: str, table: list[tuple[str, str]]) -> None:
    for key in WEIGHTS[role]():
        assert sum(re.fullmatch(pattern, key) is not None for pattern, _ in table) == 1
    for pattern, _ in table:
        assert any(re.fullmatch(pattern, key) for key in WEIGHTS[role]())


def test_stored_class_means_count_as_converged() -> None:
    generator = load_reference("gat", "generator", CONFIG, generator_weights())
    assert (generator.style_updates == gat.MANY_UPDATES).all()
    labels = torch.arange(3)
    w = torch.randn(3, 16)
    assert torch.equal(generator.truncate(w, labels, 0.0), generator.style_mean)


def test_a_discriminator_of_another_size_is_recognized() -> None:
    shallow = {k: v for k, v in discriminator_weights().items() if not k.startswith("blocks.3.")}
    sizes = gat.sizes_of({"generator": generator_weights(), "discriminator": shallow})
    assert GATConfig(**sizes.model).discriminator_size == (16, 3, 2)
    network = gat.network("discriminator", GATConfig(**sizes.model), sizes, shallow)
    assert len(network.blocks) == 3


def test_without_a_teacher_there_is_no_projector() -> None:
    weights = {k: v for k, v in discriminator_weights().items() if not k.startswith("proj.")}
    network = load_reference("gat", "discriminator", CONFIG | {"z_dim": 0}, weights)
    assert network.projector is None


def change(key: str, value: Tensor | None) -> dict[str, Tensor]:
    weights = generator_weights() | ({} if value is None else {key: value})
    return weights if value is not None else {k: v for k, v in weights.items() if k != key}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("w_avg", None, "the gat generator has no tensor for `style_mean`; expected (3, 16)"),
        (
            "blocks.3.mlp.w3.bias",
            None,
            "the gat generator has no tensor for `blocks.3.feedforward.out.bias`; expected (16,)",
        ),
        ("cls_token", torch.zeros(1), "`cls_token` is not the name of a tensor of a gat generator"),
        (
            "style_mean",
            torch.zeros(3, 16),
            "`style_mean` is not the name of a tensor of a gat generator",
        ),
        (
            "blocks.4.attn.qkv.bias",
            torch.zeros(48),
            "the gat generator has (48,) for `blocks.4.attn.qkv.bias`; expected none",
        ),
        (
            "w_avg",
            torch.zeros(3, 17),
            "the gat generator has (3, 17) for `w_avg`; expected (3, 16)",
        ),
        (
            "w_avg",
            torch.zeros(3, 16, dtype=torch.int64),
            "the gat generator: `w_avg` is torch.int64; expected torch.float32",
        ),
    ],
)
def test_wrong_tensors_are_named(key: str, value: Tensor | None, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        load_reference("gat", "generator", CONFIG, change(key, value))
    assert str(error.value) == message


def test_a_config_that_does_not_fit_its_weights_allocates_nothing() -> None:
    huge = CONFIG | {"hidden_size": 2**24, "num_classes": 2**30}
    with pytest.raises(
        CheckpointError, match=r"has \(48,\) for `blocks\.0\.attn\.qkv\.bias`; expected"
    ):
        load_reference("gat", "generator", huge, generator_weights())
