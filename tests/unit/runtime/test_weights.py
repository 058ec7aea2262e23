import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scalegan.errors import CheckpointError
from scalegan.runtime.files import save_tensors
from scalegan.runtime.weights import build_exactly, digest_of_weights, load_exactly, load_weights


def weights() -> dict[str, Tensor]:
    return {"weight": torch.zeros(2, 3), "bias": torch.ones(2)}


def test_all_tensors_arrive_whatever_their_float_type() -> None:
    layer = nn.Linear(3, 2)
    load_exactly(layer, {name: value.half() for name, value in weights().items()}, "a layer")
    assert not layer.weight.any() and layer.bias.all() and layer.bias.dtype == torch.float32


def test_a_network_on_the_meta_device_takes_the_tensors_themselves() -> None:
    with torch.device("meta"):
        norm = nn.BatchNorm1d(2)
    norm.num_batches_tracked = None
    values = {name: torch.ones(2) for name in ("weight", "bias", "running_mean", "running_var")}
    load_exactly(norm, values, "a norm")
    assert norm.running_mean is values["running_mean"]


def test_a_file_is_loaded_or_named(tmp_path: Path) -> None:
    save_tensors(weights(), tmp_path / "a.safetensors")
    layer = nn.Linear(3, 2)
    load_weights(layer, tmp_path / "a.safetensors")
    assert layer.bias.all()
    with pytest.raises(CheckpointError, match=rf"^`{tmp_path}/a\.safetensors` has \(2, 3\) for"):
        load_weights(nn.Linear(4, 2), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "the layer has no tensor for `bias`; expected (2,)"),
        ({"gain": torch.ones(1)}, "the layer has (1,) for `gain`; expected none"),
        ({"weight": torch.ones(3, 2)}, "the layer has (3, 2) for `W`; expected (2, 3)"),
        ({"bias": torch.ones(2).int()}, "the layer: `bias` is torch.int32; expected torch.float32"),
        ({"bias": None, "weight": torch.ones(1)}, "the layer has (1,) for `W`; expected (2, 3)"),
    ],
)
def test_tensors_that_do_not_fit_change_nothing(
    change: dict[str, Tensor | None], message: str
) -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    tensors = {name: value for name, value in (weights() | change).items() if value is not None}
    for load in (
        lambda: load_exactly(layer, tensors, "the layer", {"weight": "W"}),
        lambda: build_exactly(lambda: nn.Linear(3, 2), tensors, "the layer", {"weight": "W"}),
    ):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert str(caught.value) == message
    assert torch.equal(layer.weight, before)


def test_what_does_not_fit_its_weights_allocates_nothing() -> None:
    with pytest.raises(CheckpointError, match="expected "):
        build_exactly(lambda: nn.Linear(2**24, 2**24), weights(), "the layer")


def test_digests_are_those_that_files_hold() -> None:
    tensors = {
        "b.weight": torch.arange(6.0).view(2, 3) / 7,
        "a": torch.tensor(3),
        "c.num_batches_tracked": torch.tensor(5),
    }
    assert digest_of_weights(tensors) == (
        "b32aa2c061286eeb5b1c90b436e1822117347b553623a09b7d8278dfc1d33d7d"
    )
    floats = {name: value.float() for name, value in tensors.items()}
    assert digest_of_weights(floats) == (
        "2ae67cde2b63c3c85f29b682a75d2e5ae8562c5ecc831192b3a518c794b9df9f"
    )
    assert digest_of_weights(floats, lambda name, shape: json.dumps([name, list(shape)])) == (
        "bef9db71a213d59ed6c8bfb01a57f13eea260dadd5175a320aca5bdf36018e6e"
    )
    other = tensors | {"a": torch.tensor(4)}
    renamed = {name.replace("a", "d"): value for name, value in tensors.items()}
    reshaped = tensors | {"b.weight": tensors["b.weight"].view(3, 2)}
    digests = {digest_of_weights(of) for of in (tensors, other, renamed, reshaped)}
    assert len(digests) == 4
