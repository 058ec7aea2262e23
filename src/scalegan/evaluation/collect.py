"""One pass over a set of images: the features of every network, and what metrics need of them.

Moments are accumulated in memory that does not grow with the images; feature banks, logits, labels
and images are stored one by one, and only if a metric takes them.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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


class Field(StrEnum):
    """What a metric can take of a set of images: the fields of `SetFeatures`."""

    MOMENTS = "moments"
    SPATIAL = "spatial"
    BANK = "bank"
    LOGITS = "logits"
    CLASS_LOGITS = "class_logits"
    LABELS = "labels"
    IMAGES = "images"
    HASHES = "hashes"


OF_NETWORK = {Field.MOMENTS, Field.SPATIAL, Field.BANK, Field.LOGITS, Field.CLASS_LOGITS}
"""Fields that depend on the feature network."""
OF_ROWS = set(Field) - {Field.MOMENTS, Field.SPATIAL}
"""Fields with a row for each image."""

Networks = Mapping[str, FeatureNetwork]
"""Feature networks by the name that `--features` has."""


class LabeledBatch(NamedTuple):
    """A batch of images; positions put what several processes have read into order."""

    images: Images
    labels: Labels
    """-1 where there is none."""
    positions: Int64[Tensor, " N"]

    def num_images(self) -> int:
        return len(self.images)


@dataclass
class SetFeatures:
    """A set of images in one network's features; None = not collected."""

    count: int
    moments: Moments | None = None
    """Mean and covariance of the pooled features."""
    spatial: Moments | None = None
    """Mean and covariance of the spatial features."""
    bank: Float[Tensor, "N E"] | None = None
    """Pooled features."""
    logits: Float[Tensor, "N K"] | None = None
    class_logits: Float[Tensor, "N K"] | None = None
    """Logits of a classifier of the labels' classes."""
    labels: Labels | None = None
    images: UInt8[Tensor, "N 3 P P"] | None = None
    hashes: Int64[Tensor, " N"] | None = None
    """64 bits of each image's SHA-256: equal for equal images."""


@dataclass
class ImageSet:
    """A set of images in every network's features, and where it comes from."""

    features: dict[str, SetFeatures]
    """By the network's name."""
    about: dict[str, Any] = field(default_factory=dict)
    """For the protocol: source, number, crop rule, a digest of all images."""
    class_names: list[str] = field(default_factory=list)
    """Of the labels."""
    positions: Int64[Tensor, " N"] | None = None
    """Position of each row in its source; None = unknown."""

    @property
    def count(self) -> int:
        return next(iter(self.features.values())).count


class Collector:
    """Runs feature networks on batches of images and stores what the metrics take.

    Args:
        networks: feature networks by name.
        fields: what to store.
        device: where moments are accumulated.
    """

    def __init__(
        self,
        networks: Networks,
        fields: Collection[Field],
        device: torch.device | str = "cpu",
    ) -> None:
        self.networks, self.fields, self.device = networks, fields, torch.device(device)
        self.running: dict[tuple[str, Field], RunningMoments] = {}
        self.rows: dict[tuple[str, Field], list[Tensor]] = {}
        self.positions: list[Tensor] = []
        self.side = 0

    @torch.no_grad()
    def add(self, batch: LabeledBatch) -> None:
        """Run the networks on a batch.

        Raises:
            DataError: if images differ in size.
        """
        images = batch.images
        if self.side not in (0, images.shape[-1]):
            raise DataError(f"images are {self.side} and {images.shape[-1]} pixels wide")
        self.side = images.shape[-1]
        self.positions.append(batch.positions)
        self._store("", Field.LABELS, batch.labels)
        self._store("", Field.HASHES, _hashes(images))
        if Field.IMAGES in self.fields:
            self._store("", Field.IMAGES, images)
        for name, network in self.networks.items():
            with full_float32(self.device):  # fewer bits would show in a distance
                found = network(images)
            for kind, features in ((Field.MOMENTS, found.pooled), (Field.SPATIAL, found.spatial)):
                if kind in self.fields and features is not None:
                    new = RunningMoments(features.shape[1], self.device)
                    self.running.setdefault((name, kind), new).add(features)
            rows = {Field.BANK: found.pooled, Field.LOGITS: found.logits}
            if "classes" in network.identity():
                rows[Field.CLASS_LOGITS] = found.logits
            for kind, value in rows.items():
                if kind in self.fields and value is not None:
                    self._store(name, kind, value.float().cpu())

    def _store(self, network: str, kind: Field, rows: Tensor) -> None:
        self.rows.setdefault((network, kind), []).append(rows)

    def finish(self, world: World, class_names: list[str], **about: Any) -> ImageSet:
        """Join what all ranks have collected, in the order of positions.

        Raises:
            DataError: if a rank has had no image.
        """
        if world.any(not self.positions):
            raise DataError("there are fewer images than processes that could read them")
        positions = _gathered(torch.cat(self.positions), world)
        order = positions.argsort()
        found: dict[tuple[str, Field], Any] = {
            key: _gathered(torch.cat(parts), world)[order] for key, parts in self.rows.items()
        }
        hashes = found["", Field.HASHES]
        if (found["", Field.LABELS] < 0).any():
            del found["", Field.LABELS]
        for key, running in self.running.items():
            found[key] = running.gathered(world).moments()
        features = {
            name: SetFeatures(
                len(order),
                **{kind.value: value for (of, kind), value in found.items() if of in ("", name)},
            )
            for name in self.networks
        }
        digest = hashlib.sha256(hashes.sort().values.numpy().tobytes()).hexdigest()
        about |= {"num_images": len(order), "side": self.side, "digest": digest[:16]}
        about["class_names"] = class_names
        return ImageSet(features, about, class_names, positions[order])


def split(real: SetFeatures, seed: int) -> tuple[SetFeatures, SetFeatures]:
    """Two random halves of a set, of what is known of its single images."""
    order = torch.randperm(real.count, generator=stream(seed, "halves"))
    halves = []
    for part in (order[: real.count // 2], order[real.count // 2 : real.count // 2 * 2]):
        known = {kind.value: getattr(real, kind) for kind in OF_ROWS}
        rows = {name: value[part] for name, value in known.items() if value is not None}
        half = SetFeatures(len(part), **rows)
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
