"""Reference statistics in a file: ours, and ADM's, which is a part of ours.

ADM's (arXiv 2105.05233) have `mu`, `sigma` of Inception's pooled features over the whole training
set, `mu_s`, `sigma_s` of the spatial ones, and in `arr_0` some of its images. Ours add `count`,
`bank`, `labels`, `hashes` and, as JSON in `protocol`, what they are of.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalegan.data import arrays
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Seen, Side
from scalegan.evaluation.protocol import label_of
from scalegan.interfaces import FeatureNetwork
from scalegan.metrics.statistics import Moments
from scalegan.runtime.files import atomic_file, digest

FORMAT = 1
SPATIAL = ("mu_s", "sigma_s")
ROWS = ("bank", "labels", "hashes", "logits", "verdicts")


def is_statistics(text: str) -> bool:
    """Whether it is an .npz file of statistics."""
    path = Path(text)
    return path.suffix == ".npz" and path.is_file() and "mu" in arrays.headers(path)


def has_images(path: Path) -> bool:
    return arrays.IMAGES in arrays.headers(path)


def save_reference(path: Path, seen: Seen, network: FeatureNetwork) -> None:
    """Write one side in one network's features.

    Raises:
        OSError: if the disk is full or refuses.
    """
    (side,) = seen.sides.values()
    assert side.moments is not None
    about = {"format": FORMAT, "features": network.identity(), "reference": seen.about}
    values: dict[str, Any] = {
        "mu": side.moments.mean.numpy(),
        "sigma": side.moments.covariance.numpy(),
        "count": np.int64(side.moments.count),
        "protocol": np.array(json.dumps(about)),
    }
    if side.spatial is not None:
        values |= {"mu_s": side.spatial.mean.numpy(), "sigma_s": side.spatial.covariance.numpy()}
    if side.bank is not None:
        rows = {name: getattr(side, name) for name in ROWS}
        values |= {name: value.numpy() for name, value in rows.items() if value is not None}
    with atomic_file(path) as draft:
        np.savez(draft, **values)


def load_reference(path: Path, network: FeatureNetwork) -> tuple[Side, dict[str, Any]]:
    """Read statistics for use with a network; refuse those of another.

    Returns:
        The side, and its protocol.

    Raises:
        ConfigError: if they are of another feature network.
        DataError: if the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: archive[name] for name in archive.files if name != arrays.IMAGES}
        said = json.loads(str(values["protocol"])) if "protocol" in values else None
        first = _moments(values, "mu", "sigma")
        spatial = _moments(values, *SPATIAL) if "mu_s" in values else None
        rows = {name: torch.from_numpy(values[name]) for name in ROWS if name in values}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise DataError(f"`{path}` is no usable file of statistics: {error}") from None
    identity = network.identity()
    if said is None:
        if not identity.get("is_published"):
            raise ConfigError(
                f"`{path}` does not say which network made it, so it is taken for ADM's, of "
                f"Inception; `--features` is {identity['kind']}",
                "use --features inception, or write statistics with `scalegan statistics`",
            )
        about = {"kind": "statistics", "path": str(path), "digest": digest(path)[:16]}
        return Side(0, moments=first, spatial=spatial), about
    theirs = said["features"]
    for name in sorted({*theirs, *identity} - {"path", "label"}):
        if theirs.get(name) != identity.get(name):
            raise ConfigError(
                f"`{path}` was made with other features: their `{name}` is {theirs.get(name)!r}, "
                f"not {identity.get(name)!r}",
                f"use the network it was made with ({label_of(theirs)}), or make it again",
            )
    about = said["reference"] | {"file": str(path)}
    return Side(first.count, moments=first, spatial=spatial, **rows), about


def _moments(values: dict[str, Any], mean: str, covariance: str) -> Moments:
    mu, sigma = (np.asarray(values[name], np.float64) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"`{mean}` is {mu.shape} and `{covariance}` is {sigma.shape}")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f"`{mean}` or `{covariance}` is not finite")
    count = int(values.get("count", 0))
    return Moments(count, torch.from_numpy(mu), torch.from_numpy(sigma))
