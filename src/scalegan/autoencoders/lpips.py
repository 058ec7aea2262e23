"""LPIPS: a distance of images in the features of a trained classifier.

Source: "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv 1801.03924,
eq. (1), and github.com/richzhang/PerceptualSimilarity, version 0.1: its input scaling and the names
of its state dict, which stands for the file's layout. The convolutions may also be named as in
torchvision (`features.0.weight`): they are numbered alike.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import digest, load_tensors

# Numbers of the convolutions; a distance is taken behind each group, after its last ReLU.
GROUPS = {
    "VGG16": ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
    "AlexNet": ((0,), (3,), (6,), (8,), (10,)),
}
POOLED = {"VGG16": (1, 2, 3, 4), "AlexNet": (1, 2)}
"""Groups with a maximum over windows before them."""
WINDOW = {"VGG16": 2, "AlexNet": 3}
SMALLEST = {"VGG16": 16, "AlexNet": 32}
"""Sides below which nothing is left behind the last window."""
CONVOLUTION = re.compile(r"(?:net\.slice\d+|features)\.(\d+)\.(weight|bias)")
LINEAR = re.compile(r"lin(?:s\.)?(\d)\.model\.1\.weight")
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the colors, for images in [-1, 1]: ImageNet's mean and deviation."""
LAYOUT = "expected the state dict of lpips.LPIPS(net='vgg') or (net='alex') as safetensors"


class LPIPS:
    """The distance, frozen; gradients flow to the images.

    Args:
        path: a safetensors file.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        ConfigError: if there is no such file.
        CheckpointError: if it does not hold what it should.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        if not path.is_file():
            raise ConfigError(f"there is no file `{path}`; it is the `lpips_path`", LAYOUT)
        tensors = load_tensors(path)
        self.digest = digest(path)
        self.linear: dict[int, Tensor] = {}
        self.weights: dict[tuple[int, str], Tensor] = {}
        for name, value in tensors.items():
            if match := CONVOLUTION.fullmatch(name):
                self.weights[int(match[1]), match[2]] = value.float().to(device)
            elif match := LINEAR.fullmatch(name):
                self.linear[int(match[1])] = value.float().to(device)
        first = self.weights.get((0, "weight"))
        self.kind = "AlexNet" if first is not None and first.shape[-1] == 11 else "VGG16"
        self._check(path)
        self.shift, self.scale = (
            torch.tensor(v, device=device).view(3, 1, 1) for v in (SHIFT, SCALE)
        )

    # d(a, b) = sum over layers l of mean over positions of |w_l * (y_a - y_b)|^2, y of unit length;
    # arXiv 1801.03924, eq. (1).
    def __call__(
        self, a: Float[Tensor, "N I P P"], b: Float[Tensor, "N I P P"]
    ) -> Float[Tensor, " N"]:
        """Distance of each pair of images in [-1, 1], of one channel or three."""
        total = a.new_zeros(len(a))
        for i, (of_a, of_b) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            distance = F.conv2d((of_a - of_b).square(), self.linear[i])  # (N, 1, H, W)
            total = total + distance.flatten(1).mean(dim=1)
        return total

    def check_side(self, side: int) -> None:
        """Refuse images of which nothing is left behind the last window.

        Raises:
            ConfigError: if they are so small.
        """
        if side < SMALLEST[self.kind]:
            raise ConfigError(
                f"images of {side}x{side} are too small for LPIPS on {self.kind}, which takes "
                f"{SMALLEST[self.kind]} at least",
                "leave --lpips-path out",
            )

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        """Behind each group, of unit length over the channels."""
        x = (images.expand(-1, 3, -1, -1) - self.shift) / self.scale
        found = []
        for i, group in enumerate(GROUPS[self.kind]):
            if i in POOLED[self.kind]:
                x = F.max_pool2d(x, WINDOW[self.kind], stride=2)
            for number in group:
                weight = self.weights[number, "weight"]
                is_wide = weight.shape[-1] == 11  # AlexNet's first
                stride, padding = (4, 2) if is_wide else (1, weight.shape[-1] // 2)
                x = F.relu(F.conv2d(x, weight, self.weights[number, "bias"], stride, padding))
            # 1e-20 gives the root a slope where all channels are zero.
            length = (x.square().sum(dim=1, keepdim=True) + 1e-20).sqrt()
            found.append(x / (length + 1e-10))
        return found

    def _check(self, path: Path) -> None:
        """Refuse a file that lacks a tensor or holds one that does not follow on the last."""
        width = 3
        for i, group in enumerate(GROUPS[self.kind]):
            for number in group:
                weight = self.weights.get((number, "weight"), torch.empty(0))
                bias = self.weights.get((number, "bias"), torch.empty(0))
                if weight.ndim != 4 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                    raise CheckpointError(
                        f"`{path}` does not hold LPIPS's weights: convolution {number} is missing "
                        "or misshapen",
                        LAYOUT,
                    )
                width = len(weight)
            if self.linear.get(i, torch.empty(0)).shape != (1, width, 1, 1):
                raise CheckpointError(
                    f"`{path}` does not hold LPIPS's weights: `lin{i}.model.1.weight` is missing "
                    "or misshapen",
                    LAYOUT,
                )
