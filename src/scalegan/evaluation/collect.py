"""One side of a comparison: a pass over its images, and what is kept of them.

One pass feeds every feature network once. Moments are sums whose memory does not grow with the
images; banks, logits, labels and images are kept one by one, and only if a metric takes them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from scalegan.errors import DataError
from scalegan.interfaces import FeatureNetwork, Images, Labels
from scalegan.metrics.statistics import Moments, RunningMoments, moments
from scalegan.runtime.precision import full_float32
from scalegan.runtime.rng import stream
from scalegan.runtime.world import World


class Shown(NamedTuple):
    """A batch of a side's images; positions order what several processes have seen."""

    images: Images
    labels: Labels
    """-1 where there is none."""
    positions: Int64[Tensor, " N"]


@dataclass
class Side:
    """What is known of one side's images in one network's features; None: it was not asked for."""

    count: int
    moments: Moments | None = None
    spatial: Moments | None = None
    bank: Float[Tensor, "N E"] | None = None
    logits: Float[Tensor, "N K"] | None = None
    verdicts: Float[Tensor, "N K"] | None = None
    """Logits of a network that knows the classes of the labels."""
    labels: Labels | None = None
    images: UInt8[Tensor, "N 3 P P"] | None = None
    hashes: Int64[Tensor, " N"] | None = None
    """64 bits of each image's SHA-256: equal for equal images."""


@dataclass
class Seen:
    """One side in every network's features, and what its images are."""

    sides: dict[str, Side]
    about: dict[str, Any] = field(default_factory=dict)
    """Protocol: where they come from, how many, which crop, a digest of all."""
    positions: Int64[Tensor, " N"] | None = None
    """Where each row stood in what was looked at; None: not known."""

    @property
    def count(self) -> int:
        return next(iter(self.sides.values())).count


class Collector:
    """Takes one side's batches on this rank and keeps what the metrics take.

    Args:
        networks: feature networks by name.
        kinds: fields of `Side` to fill.
        device: where sums are kept.
    """

    def __init__(
        self,
        networks: Mapping[str, FeatureNetwork],
        kinds: set[str],
        device: torch.device | str = "cpu",
    ) -> None:
        self.networks, self.kinds, self.device = networks, kinds, device
        self.sums: dict[tuple[str, str], RunningMoments] = {}
        self.rows: dict[tuple[str, str], list[Tensor]] = {}
        self.classes = {name: "classes" in n.identity() for name, n in networks.items()}
        self.count = 0
        self.side = 0

    @torch.no_grad()
    def add(self, shown: Shown) -> None:
        """Look at a batch.

        Raises:
            DataError: if images differ in size, or a network has not what is to be kept.
        """
        images = shown.images
        if self.side not in (0, images.shape[-1]):
            raise DataError(f"images are {self.side} and {images.shape[-1]} pixels wide")
        self.side, self.count = images.shape[-1], self.count + len(images)
        self._keep("", positions=shown.positions, labels=shown.labels, hashes=_hashes(images))
        if "images" in self.kinds:
            self._keep("", images=images)
        for name, network in self.networks.items():
            with full_float32(torch.device(self.device)):  # fewer bits would show in a distance
                seen = network(images)
            if "moments" in self.kinds:
                self._add(name, "moments", seen.pooled)
            if "bank" in self.kinds:
                self._keep(name, bank=seen.pooled.float().cpu())
            if "spatial" in self.kinds and seen.spatial is not None:
                self._add(name, "spatial", seen.spatial)
            if "logits" in self.kinds and seen.logits is not None:
                self._keep(name, logits=seen.logits.float().cpu())
            if "verdicts" in self.kinds and seen.logits is not None and self.classes[name]:
                self._keep(name, verdicts=seen.logits.float().cpu())

    def _add(self, network: str, kind: str, features: Tensor) -> None:
        new = RunningMoments(features.shape[1], self.device)
        self.sums.setdefault((network, kind), new).add(features)

    def _keep(self, network: str, **rows: Tensor) -> None:
        for kind, value in rows.items():
            self.rows.setdefault((network, kind), []).append(value)

    def finish(self, world: World, **about: Any) -> Seen:
        """Join what all ranks have seen, in the order of positions.

        Raises:
            DataError: if a rank has seen nothing.
        """
        if world.any(not self.count):
            raise DataError("there are fewer images than processes that could look at them")
        positions = _gathered(torch.cat(self.rows.pop(("", "positions"))), world)
        order = positions.argsort()
        joined = {
            key: _gathered(torch.cat(parts), world)[order] for key, parts in self.rows.items()
        }
        summed = {key: sums.gathered(world).moments() for key, sums in self.sums.items()}
        common: dict[str, Any] = {
            kind: value for (network, kind), value in joined.items() if not network
        }
        hashes = common["hashes"]
        if (common["labels"] < 0).any():
            del common["labels"]
        sides = {}
        for name in self.networks:
            own: dict[str, Any] = {
                kind: value
                for found in (joined, summed)
                for (network, kind), value in found.items()
                if network == name
            }
            sides[name] = Side(len(order), **common, **own)
        digest = hashlib.sha256(hashes.sort().values.numpy().tobytes()).hexdigest()
        facts = {"num_images": len(order), "side": self.side, "digest": digest[:16]}
        return Seen(sides, about | facts, positions[order])


def split(real: Side, seed: int) -> tuple[Side, Side]:
    """Two random halves of what is known of real images, row by row."""
    order = torch.randperm(real.count, generator=stream(seed, "halves"))
    halves = []
    for part in (order[: real.count // 2], order[real.count // 2 : real.count // 2 * 2]):
        rows = {
            kind: getattr(real, kind)[part]
            for kind in ("bank", "logits", "verdicts", "labels", "images", "hashes")
            if getattr(real, kind) is not None
        }
        half = Side(len(part), **rows)
        half.moments = None if half.bank is None else moments(half.bank)
        halves.append(half)
    return halves[0], halves[1]


def _gathered(rows: Tensor, world: World) -> Tensor:
    """Rows of all ranks, which may have different numbers of them; on the CPU."""
    if world.size == 1:
        return rows
    counts = world.gather(torch.tensor([len(rows)], device=world.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = world.gather(padded.to(world.device)).cpu().split(max(counts))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _hashes(images: Images) -> Int64[Tensor, " N"]:
    digests = [hashlib.sha256(image.numpy().tobytes()).digest()[:8] for image in images.cpu()]
    return torch.tensor([int.from_bytes(d, "little", signed=True) for d in digests])
