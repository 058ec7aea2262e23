"""The Inception network that FID means: the TensorFlow graph of 2015-12-05 with 1008 outputs.

Architecture: "Rethinking the Inception Architecture for Computer Vision" (arXiv 1512.00567) as that
graph has it. Where it differs from torchvision's `inception_v3`, another network with other
weights: average pools leave the padding out, `Mixed_7c` has a max pool where `Mixed_7b` has an
average pool, batch norm adds 0.001, images are resized as TensorFlow 1 does and become
(x - 128) / 128. Names are those of the published weight files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from scalegan.errors import ConfigError
from scalegan.features.resize import FILTERS
from scalegan.interfaces import Features
from scalegan.runtime.files import digest
from scalegan.runtime.foreign import read_tensors
from scalegan.runtime.precision import full_float32
from scalegan.runtime.weights import digest_of_weights, load_exactly

DIGEST = "6726825d"
"""SHA-256 of the published file, its first eight digits."""
NAMES = (f"pt_inception-2015-12-05-{DIGEST}.pth", f"weights-inception-2015-12-05-{DIGEST}.pth")
SIDE = 299
SPATIAL = 7
"""Channels of the 1x1 branch of `Mixed_6d` that sFID looks at."""
COUNTS = ".num_batches_tracked"

Size = int | tuple[int, int]


class Handling(NamedTuple):
    """How a tool brings images to the network: each makes another metric of the same weights."""

    kind: str
    resize: str
    """One of `ops.resize.FILTERS`."""
    middle: float
    scale: float
    """Images become (x - middle) / scale."""


HANDLINGS = {
    "inception": Handling("inception-2015-12-05", "tf1-bilinear", 128.0, 128.0),
    "inception-clean": Handling("inception-clean", "clean-bicubic", 128.0, 128.0),
    "inception-pytorch-fid": Handling("inception-pytorch-fid", "halfpixel-bilinear", 127.5, 127.5),
}
"""What FID means (original FID, ADM, torch-fidelity); clean-fid's; pytorch-fid's."""


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: Size, stride: int = 1, pad: Size = 0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self.bn.num_batches_tracked = None  # counts steps of training; some files have it not

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B R S"]:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def shrinking_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class Mixed35(nn.Module):
    """On the 35x35 grid (5b, 5c, 5d)."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, pad=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, pad=1)
        self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B H W"]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(average_pool(x))
        return torch.cat(
            [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, pooled], dim=1
        )


class To17(nn.Module):
    """From 35x35 to 17x17 (6a)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B R S"]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, shrinking_pool(x)], dim=1)


class Mixed17(nn.Module):
    """On the 17x17 grid (6b to 6e), with 7x7 kernels taken apart."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row: dict[str, Any] = {"size": (1, 7), "pad": (0, 3)}
        column: dict[str, Any] = {"size": (7, 1), "pad": (3, 0)}
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, width, 1)
        self.branch7x7_2 = Convolution(width, width, **row)
        self.branch7x7_3 = Convolution(width, 192, **column)
        self.branch7x7dbl_1 = Convolution(768, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, **column)
        self.branch7x7dbl_3 = Convolution(width, width, **row)
        self.branch7x7dbl_4 = Convolution(width, width, **column)
        self.branch7x7dbl_5 = Convolution(width, 192, **row)
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B H W"]:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        # The 1x1 branch comes first: sFID takes its first channels.
        return torch.cat(
            [self.branch1x1(x), single, double, self.branch_pool(average_pool(x))], dim=1
        )


class To8(nn.Module):
    """From 17x17 to 8x8 (7a)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), pad=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), pad=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B R S"]:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat(
            [self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), shrinking_pool(x)],
            dim=1,
        )


class Mixed8(nn.Module):
    """On the 8x8 grid (7b with an average pool, 7c with a max pool)."""

    def __init__(self, inputs: int, is_last: bool) -> None:
        super().__init__()
        self.pool = max_pool if is_last else average_pool
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), pad=(1, 0))
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, pad=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), pad=(1, 0))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Float[Tensor, "N A H W"]) -> Float[Tensor, "N B H W"]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(parts, dim=1)


class Network(nn.Module):
    """The graph, with the names of the published files."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, pad=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c = Mixed35(192, 32), Mixed35(256, 64)
        self.Mixed_5d, self.Mixed_6a = Mixed35(288, 64), To17(288)
        self.Mixed_6b, self.Mixed_6c = Mixed17(128), Mixed17(160)
        self.Mixed_6d, self.Mixed_6e = Mixed17(160), Mixed17(192)
        self.Mixed_7a = To8()
        self.Mixed_7b, self.Mixed_7c = Mixed8(1280, is_last=False), Mixed8(2048, is_last=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(
        self, x: Float[Tensor, "N 3 299 299"]
    ) -> tuple[Float[Tensor, "N 2048"], Float[Tensor, "N 7 17 17"]]:
        """The mean over places of the last block, and the map of `Mixed_6d` that sFID looks at."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = shrinking_pool(x)  # (N, 64, 73, 73)
        x = shrinking_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (N, 192, 35, 35)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x)))  # (N, 768, 17, 17)
        spatial = x[:, :SPATIAL].contiguous()
        last = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(x))))  # (N, 2048, 8, 8)
        return last.mean(dim=(2, 3)), spatial


class Inception:
    """FID's features of images.

    Args:
        weights: all tensors of a published file, under its names.
        digest: SHA-256 of the file; empty for weights that come from none.
        device: where it computes.
        handling: a name in `HANDLINGS`.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        digest: str = "",
        device: torch.device | str = "cpu",
        handling: str = "inception",
    ) -> None:
        kept = {name: value.float() for name, value in weights.items() if not name.endswith(COUNTS)}
        with torch.device("meta"):
            network = Network()
        load_exactly(network, kept, "the weight file of FID's Inception")
        self.network = network.requires_grad_(False).eval().to(device)
        # Marked, so that it cannot be taken for the digest of a file.
        self.digest = digest or f"tensors-{digest_of_weights(kept)}"
        self.device = torch.device(device)
        self.handling = HANDLINGS[handling]

    @property
    def is_published(self) -> bool:
        """Whether weights and handling are the ones that FID means. With others it is not FID."""
        is_usual = self.handling == HANDLINGS["inception"]
        return is_usual and self.digest.startswith(DIGEST)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "N 3 H W"]) -> Features:
        """Pooled (N, 2048), spatial (N, 2023), logits without the bias (N, 1008).

        Images of any size are stretched to 299 x 299.
        """
        _, resize, middle, scale = self.handling
        x = FILTERS[resize](images.to(self.device), SIDE)
        x = ((x - middle) / scale).contiguous(memory_format=torch.channels_last)
        with full_float32(self.device):
            pooled, spatial = self.network(x)
            return Features(pooled, spatial.flatten(1), pooled @ self.network.fc.weight.T)

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.handling.kind,
            "weights": self.digest,
            "is_published": self.is_published,
            "layer": "pooled after Mixed_7c; spatial: Mixed_6d, 7 channels; logits without bias",
            "resize": f"{self.handling.resize} {SIDE}",
            "precision": "float32",
        }


def inception(handling: str, path: str = "", device: torch.device | str = "cpu") -> Inception:
    """Load the network.

    Args:
        handling: a name in `HANDLINGS`.
        path: the weight file; empty = look in this package's cache folder and in PyTorch's.
        device: where it computes.

    Raises:
        ConfigError: if it is not there, or a file of the published name is another.
        CheckpointError: if its tensors are not this network's.
    """
    file = Path(path) if path else _cached()
    if not file.is_file():
        raise ConfigError(f"there is no weight file `{file}`")
    found = digest(file)
    if file.name in NAMES and not found.startswith(DIGEST):
        raise ConfigError(
            f"`{file}` is damaged or another file: its SHA-256 begins with {found[:8]}",
            f"fetch it again; the right one begins with {DIGEST}",
        )
    return Inception(read_tensors(file), found, device, handling)


def folders() -> list[Path]:
    """Where the weight file is looked for: our cache, and where other tools leave it."""
    cache = Path.home() / ".cache"
    return [cache / "scalegan", cache / "torch" / "hub" / "checkpoints"]


def _cached() -> Path:
    for folder in folders():
        for name in NAMES:
            if (folder / name).is_file():
                return folder / name
    raise ConfigError(
        f"FID's Inception needs its weight file `{NAMES[0]}`, which is not on this machine",
        f"put it into `{folders()[0]}` (it is in release fid_weights of "
        "github.com/mseitzer/pytorch-fid), or name another feature network",
    )
