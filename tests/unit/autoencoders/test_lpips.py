"""LPIPS from a small file in its layout, against layers put together from PyTorch's own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scalegan.autoencoders.lpips import GROUPS, LPIPS
from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import save_tensors

WIDTHS = (4, 6, 5, 3, 2)
SHIFT, SCALE = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])


def layers(kind: str) -> nn.Sequential:
    """As torchvision's `features`, narrow; layer i has number i."""
    a, b, c, d, e = WIDTHS
    if kind == "AlexNet":
        return nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, e, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
    found: list[nn.Module] = []
    for width, count in zip(WIDTHS, (2, 2, 3, 3, 3), strict=True):
        found += [nn.MaxPool2d(2)] if found else []
        for _ in range(count):
            before = next((m.out_channels for m in found[::-1] if isinstance(m, nn.Conv2d)), 3)
            found += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*found)


def tensors(kind: str, network: nn.Sequential) -> dict[str, Tensor]:
    """The names that lpips.LPIPS gives them."""
    named = {}
    for name, value in network.state_dict().items():
        number = int(name.partition(".")[0])
        group = next(i for i, numbers in enumerate(GROUPS[kind]) if number in numbers)
        named[f"net.slice{group + 1}.{name}"] = value
    rng = torch.Generator().manual_seed(1)
    for i, width in enumerate(WIDTHS):
        named[f"lin{i}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=rng)
    return named | {"scaling_layer.shift": SHIFT.view(1, 3, 1, 1)}


def by_hand(kind: str, network: nn.Sequential, named: dict[str, Tensor], a: Tensor, b: Tensor):
    ends = {numbers[-1] + 1: i for i, numbers in enumerate(GROUPS[kind])}  # the ReLU behind it
    total = torch.zeros(len(a))
    a, b = ((x - SHIFT.view(3, 1, 1)) / SCALE.view(3, 1, 1) for x in (a, b))
    for number, layer in enumerate(network):
        a, b = layer(a), layer(b)
        if number in ends:
            unit = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-10) for x in (a, b)]
            weight = named[f"lin{ends[number]}.model.1.weight"].view(-1, 1, 1)
            total += ((unit[0] - unit[1]).square() * weight).sum(dim=1).mean(dim=(1, 2))
    return total


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("is_plain", [False, True])
def test_it_equals_the_paper_by_hand(kind: str, is_plain: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = layers(kind)
    named = tensors(kind, network)
    written = named
    if is_plain:  # the backbone as torchvision has it, the rest under its other name
        lins = {f"lins.{i}.model.1.weight": named[f"lin{i}.model.1.weight"] for i in range(5)}
        written = {f"features.{name}": value for name, value in network.state_dict().items()} | lins
    save_tensors(written, tmp_path / "lpips.safetensors")
    distance = LPIPS(tmp_path / "lpips.safetensors")
    assert distance.kind == kind
    a, b = torch.rand(2, 3, 3, 40, 40) * 2 - 1
    with torch.no_grad():
        expected = by_hand(kind, network, named, a, b)
    assert torch.allclose(distance(a, b), expected, rtol=1e-4, atol=1e-6)
    assert (expected > 1e-3).all() and not distance(a, a).any()
    gray = torch.rand(2, 1, 32, 32)
    assert torch.equal(distance(gray, gray.flip(0)), distance(
        gray.expand(-1, 3, -1, -1), gray.flip(0).expand(-1, 3, -1, -1)))  # fmt: skip


def test_gradients_are_finite_where_nothing_is_active(tmp_path: Path) -> None:
    network = layers("VGG16")
    for value in network.parameters():
        nn.init.constant_(value, -1.0)  # of white images no ReLU lets anything through
    save_tensors(tensors("VGG16", network), tmp_path / "lpips.safetensors")
    made = torch.ones(1, 3, 16, 16, requires_grad=True)
    LPIPS(tmp_path / "lpips.safetensors")(made, torch.rand(1, 3, 16, 16)).sum().backward()
    assert made.grad is not None and made.grad.isfinite().all()


def test_what_is_no_lpips_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lpips.safetensors"
    with pytest.raises(ConfigError, match=r"^there is no file `.*`; it is the `lpips_path`$"):
        LPIPS(path)
    named = tensors("VGG16", layers("VGG16"))
    for name in ("net.slice3.12.weight", "net.slice1.0.bias", "lin4.model.1.weight"):
        save_tensors({key: value for key, value in named.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=r"(convolution (12|0)|lin4.*) is missing or mis"):
            LPIPS(path)
    path.write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        LPIPS(path)


@pytest.mark.parametrize(("kind", "side"), [("VGG16", 16), ("AlexNet", 32)])
def test_small_images_are_refused(kind: str, side: int, tmp_path: Path) -> None:
    save_tensors(tensors(kind, layers(kind)), tmp_path / "lpips.safetensors")
    distance = LPIPS(tmp_path / "lpips.safetensors")
    distance.check_side(side)
    assert distance(torch.ones(1, 3, side, side), torch.zeros(1, 3, side, side)).isfinite().all()
    with pytest.raises(ConfigError, match=f"are too small for LPIPS on {kind}, which takes {side}"):
        distance.check_side(side - 1)
