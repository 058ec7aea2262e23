"""Autoencoders with a network: image range, storage and unit scale of their latents.

A `Codec` is a network between images in its own range and latents at its own scale. `Latents`
makes an `interfaces.Autoencoder` of one: range, storage, unit scale, identity. Stored are the
network's own latents, float16 (N, C, H, W), or (N, 2C, H, W) with mean and standard deviation, as
the official GAT code keeps them; they are scaled when they are sampled.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.autoencoders.pixels import to_gray
from scalegan.errors import ConfigError
from scalegan.interfaces import Images, Samples, Stored
from scalegan.runtime.weights import digest_of_weights

PIXELS_AT_A_TIME = {"cpu": 2**15, "cuda": 2**20}
"""Bounds the memory of a forward pass."""


@dataclass(frozen=True)
class Codec:
    """A frozen network with what must be known to use it."""

    family: str
    """kl, tiny or taef2: how the weights are read."""
    network: nn.Module
    encode: Callable[[Tensor], Tensor]
    """Images (N, I, P, P) to moments (N, 2C, H, W), or to latents (N, C, H, W)."""
    decode: Callable[[Tensor], Tensor]
    """Latents (N, C, H, W) to images, not clamped."""
    lowest: float
    """Value of black; white is 1. A wrong range is quiet: it costs 10 dB and no error."""
    image_channels: int
    channels: int
    factor: int
    shift: Float[Tensor, " C"]
    scale: Float[Tensor, " C"]
    """Samples are (latents - shift) * scale."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What decides the outputs and cannot be seen in the weights."""


class Latents:
    """Images to samples of about unit scale through a network. Computes where its inputs are.

    Args:
        codec: the network.
        store: "moments" or "mean"; only where the encoder gives both.
        channels: 1 if the images are gray, else 3.
        side: of the images.

    Raises:
        ConfigError: if the images do not fit the network.
    """

    def __init__(
        self, codec: Codec, store: Literal["moments", "mean"], channels: int, side: int
    ) -> None:
        if side % codec.factor:
            raise ConfigError(
                f"images of {side}x{side} do not fit an autoencoder of factor {codec.factor}",
                f"their side must be a multiple of {codec.factor}",
            )
        if codec.image_channels < channels:
            raise ConfigError(
                "the autoencoder was made for gray images and these have color",
                "make them gray, or train one with `scalegan autoencoder train`",
            )
        self.codec, self.store = codec, store
        codec.network.requires_grad_(False).eval()
        self.shape = (codec.channels, side // codec.factor, side // codec.factor)

    @torch.no_grad()
    def encode(self, images: Images) -> Stored:
        """Encode images: float16. An image's values do not depend on what is around it."""
        codec = self.codec
        images = images if codec.image_channels == 3 else to_gray(images)

        def encode_part(part: Tensor) -> Tensor:
            stored = codec.encode(part.float() / 255 * (1 - codec.lowest) + codec.lowest)
            return (stored if self.store == "moments" else stored[:, : codec.channels]).half()

        return self._in_parts(encode_part, images)

    def sample(self, stored: Stored) -> Samples:
        """Scale; where moments are stored, draw from PyTorch's own generator first."""
        latents = stored.float()
        if latents.shape[1] == 2 * self.codec.channels:
            mean, deviation = latents.chunk(2, dim=1)
            latents = mean + deviation * torch.randn_like(mean)
        shift, scale = self._normalization(latents.device)
        return (latents - shift) * scale

    @torch.no_grad()
    def decode(self, samples: Samples) -> Images:
        """Round to the nearest of 256 values. An image does not depend on what is around it."""
        codec = self.codec
        shift, scale = self._normalization(samples.device)

        def decode_part(part: Tensor) -> Tensor:
            decoded = codec.decode(part / scale + shift).float()
            values = (decoded - codec.lowest) / (1 - codec.lowest) * 255
            return values.round().clamp(0, 255).to(torch.uint8)

        return self._in_parts(decode_part, samples.float()).expand(-1, 3, -1, -1)

    def identity(self) -> dict[str, Any]:
        """What decides the outputs; the same weights in another file or folder are the same."""
        codec = self.codec
        return {
            "kind": codec.family,
            "weights": self._digest,
            "channels": codec.channels,
            "factor": codec.factor,
            "image_channels": codec.image_channels,
            "shift": codec.shift.tolist(),
            "scale": codec.scale.tolist(),
            "store": self.store,
            **codec.settings,
        }

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of names, shapes and values of all weights."""
        # Snapshots, checkpoints and shards hold digests with these headings.
        return digest_of_weights(
            {name: value.float() for name, value in self.codec.network.state_dict().items()},
            heading=lambda name, shape: json.dumps([name, list(shape)]),
        )

    def _normalization(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return tuple(t.to(device).view(-1, 1, 1) for t in (self.codec.shift, self.codec.scale))  # type: ignore[return-value]

    def _in_parts(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        """Apply a function to parts of one fixed length.

        The last bits of a convolution depend on the length of the batch: 1e-6 on a CPU. With parts
        of equal length, the last one filled up, a row's result depends on the row alone.
        """
        self.codec.network.to(tensor.device)
        side = self.shape[1] * self.codec.factor
        pixels = PIXELS_AT_A_TIME["cpu" if tensor.device.type == "cpu" else "cuda"]
        length = max(1, pixels // side**2)
        filled = tensor.new_zeros(-len(tensor) % length, *tensor.shape[1:])
        parts = torch.cat([tensor, filled]).split(length)
        if not len(tensor):  # the shape of nothing is still asked for
            return function(tensor.new_zeros(1, *tensor.shape[1:]))[:0]
        return torch.cat([function(part) for part in parts])[: len(tensor)]
