"""Recorded values of the metrics, and ours under their names.

A case is a JSON with `expected` values and arrays beside it. What is computed is decided by the
names of values and arrays, never by a case's name or sizes; a value that nobody knows is an error.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from scalegan.features import resize
from scalegan.features.inception import Inception
from scalegan.metrics.accuracy import top_k_accuracy
from scalegan.metrics.frechet import (
    frechet_distance,
    frechet_distance_of_features,
    frechet_infinity,
)
from scalegan.metrics.inception_score import inception_score
from scalegan.metrics.kernel import draw_subsets, kernel_distance_of_subsets
from scalegan.metrics.memorization import authenticity_percent
from scalegan.metrics.neighbors import inside, nearest
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.precision_recall import density_coverage, precision_recall
from scalegan.metrics.statistics import Moments, moments

Values = dict[str, Tensor]

FILTERS = {
    "tf1_bilinear": "tf1-bilinear",
    "clean_bicubic": "clean-bicubic",
    "torch_bilinear_halfpixel": "halfpixel-bilinear",
}
INPUTS = {"64": "Conv2d_3b_1x1", "192": "Mixed_5b", "768": "Mixed_7a"}
"""By the width that a case calls features of earlier layers by: the block that takes these."""
SPATIAL = 7
COUNTED = 1e-9
"""Shares and sizes without a stated tolerance are counts, exact but for the division."""


@dataclass(frozen=True)
class Expected:
    """Right is what is within the tolerance of the value, or of one of the others."""

    value: Tensor
    atol: float
    rtol: float = 0.0
    also_right: tuple[float, ...] = ()

    def fault(self, ours: Tensor | None) -> str:
        if ours is None:
            return "is recorded but we compute nothing to compare it with"
        if ours.shape != self.value.shape:
            return f"has shape {tuple(ours.shape)}, recorded is {tuple(self.value.shape)}"
        for value in (self.value, *map(torch.tensor, self.also_right)):
            limit = self.atol + self.rtol * value.double().abs()
            difference = (ours.double() - value.double()).abs()
            if (difference <= limit).all():
                return ""
        return (
            f"differs from the last by up to {difference.max():.3g}, allowed is {limit.max():.3g}"
        )

    def disturbed(self) -> "Expected":
        """Wrong in one element, by little more than no right value can be from another."""
        value = self.value.double().clone()
        element = value.view(-1)[value.numel() // 2 :][:1]
        others = [abs(other - element.item()) for other in self.also_right]
        element += 2.01 * (self.atol + self.rtol * element.abs()) + max(others, default=0) + 1e-7
        return replace(self, value=value, also_right=())


@dataclass(frozen=True)
class Case:
    folder: Path
    name: str
    about: dict[str, Any]
    arrays: Values

    def images(self, name: str) -> Tensor:
        """Channels last, with or without a first axis, as uint8 (N, 3, H, W)."""
        array = self.arrays[name]
        return (array if array.ndim == 4 else array[None]).permute(0, 3, 1, 2)


def read(path: Path) -> Case:
    """The case of a `NAME.json` and the `NAME.npz` beside it, if there is one."""
    about = json.loads(path.read_text())
    beside = path.with_suffix(".npz")
    arrays = load(beside) if beside.exists() else {}
    return Case(path.parent, path.stem, about, arrays)


def load(path: Path) -> Values:
    with np.load(path) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def paths(folder: Path) -> list[Path]:
    """All cases of what we compute; an index has none of the marks of one."""
    files = sorted(set((folder / "metrics").glob("*.json")) - {folder / "metrics/rounding.json"})
    return [file for file in files if "expected" in json.loads(file.read_text())]


def expected(case: Case) -> dict[str, Expected]:
    """All recorded values by name, those of nested entries with dots."""
    about, arrays = case.about["expected"], case.arrays
    if "tensor_names_and_shapes" in case.about:
        share = float(re.search(r"allow (\S+) times", about["tolerance"])[1])
        recorded = {k: v for k, v in arrays.items() if not k.startswith("images_")}
        return {k: Expected(v, share * v.abs().max().item()) for k, v in recorded.items()}
    if any(name.endswith("_u8") for name in arrays):
        atol = case.about["atol"]
        recorded = {k: v for k, v in arrays.items() if k.endswith(tuple(FILTERS))}
        return {k: Expected(v, atol[k.split("_", 2)[2]]) for k, v in recorded.items()}
    found = {}
    for name, entry in about.items():
        for part, value in values(entry):
            slack = {key: entry.get(key, 0.0) for key in ("atol", "rtol")}
            if part.endswith(".slope"):
                slack = {"atol": 0.0, "rtol": entry["slope_rtol"]}
            if part.endswith((".sizes", ".missing_classes")) or not any(slack.values()):
                slack = {"atol": COUNTED, "rtol": 0.0}
            others = tuple(entry.get("also_right", ())) if part == "" else ()
            found[name + part] = Expected(
                torch.tensor(value, dtype=torch.float64), **slack, also_right=others
            )
    if "samples" in case.about:  # of a file format: what must be found in it
        found["samples.shape"] = Expected(torch.tensor(case.about["samples"]["shape"]), 0)
    return found


def values(entry: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers and lists of numbers of an entry, but not what describes it."""
    describing = ("note", "atol", "rtol", "slope_rtol", "also_right", "subsets", "subset_size",
                  "rng_seed", "chunk")  # fmt: skip
    for key, value in entry.items():
        name = prefix if key == "value" else f"{prefix}.{key}"
        if key in describing:
            continue
        if isinstance(value, dict):
            yield from values(value, name)
        else:
            yield name, value


def computed(case: Case) -> Values:
    """What our code makes of a case."""
    if "tensor_names_and_shapes" in case.about:
        return inception(case)
    if any(name.endswith("_u8") for name in case.arrays):
        return resized(case)
    ours: dict[str, Any] = {}
    tools = Tools(case)
    for name, entry in case.about["expected"].items():
        ours |= {name + part: value for part, value in tools.find(name)(entry)}
    if "samples" in case.about:
        ours["samples.shape"] = list(load(tools.beside("samples"))["arr_0"].shape)
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in ours.items()}


Parts = Iterator[tuple[str, Any]]


class Tools:
    """By pattern of a value's name, what computes it; what is shared is computed once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        arrays = case.arrays
        self.real, self.fake = (features(arrays, side) for side in ("real", "fake"))
        self.by_k: dict[int, dict[str, float]] = {}
        if self.real is not None and not any("nhwc" in name for name in arrays):
            asked = (re.search(r"_k(\d+)$", name) for name in case.about["expected"])
            k = max([3, *(int(found[1]) for found in asked if found)])
            self.near_real = nearest(self.real, self.real, k, is_same=True).distances
            self.near_fake = nearest(self.fake, self.fake, k, is_same=True).distances

    def find(self, name: str) -> Callable[[dict[str, Any]], Parts]:
        for pattern, tool in TOOLS.items():
            match = re.fullmatch(pattern, name)
            if match:
                return lambda entry: tool(self, match, entry)
        raise LookupError(f"nothing computes `{name}` of the case `{self.case.name}`")

    def beside(self, kind: str) -> Path:
        return self.case.folder / f"{self.case.name.removesuffix('_files')}_{kind}.npz"

    def frechet(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        sides = [moments(self.real), moments(self.fake)]
        if match[0] == "fd_divided_by_n":
            sides = [side._replace(covariance=side.covariance * (side.count - 1) / side.count)
                     for side in sides]  # fmt: skip
        else:
            from_features = frechet_distance_of_features(self.real, self.fake)
            assert abs(from_features - frechet_distance(*sides)) <= entry["atol"]
        yield "", frechet_distance(*sides)

    def kernel(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        whole = (torch.arange(len(side))[None] for side in (self.real, self.fake))
        yield "", kernel_distance_of_subsets(self.real, self.fake, *whole).mean

    def subsets(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        if "rng_seed" in entry:
            counts = len(self.real), len(self.fake)
            rows = draw_subsets(*counts, entry["subsets"], entry["subset_size"], entry["rng_seed"])
        else:
            rows = self.case.arrays["kid_rows_real"], self.case.arrays["kid_rows_fake"]
        score = kernel_distance_of_subsets(self.real, self.fake, *rows)
        yield from ((".mean", score.mean), (".std", score.std))

    def balls(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        yield "", self.balls_of(int(match[2]))[match[1]]

    def adm(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        found = self.balls_of(3)
        yield from ((f".{name}", found[name]) for name in ("precision", "recall"))

    def balls_of(self, k: int) -> dict[str, float]:
        if k not in self.by_k:
            precise = precision_recall(self.real, self.fake, k)
            dense = density_coverage(self.real, self.fake, k)
            self.by_k[k] = precise._asdict() | dense._asdict()
        return self.by_k[k]

    def comparisons(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        k = int(match[1])
        radii = self.near_real[:, k - 1], self.near_fake[:, k - 1]
        for name, is_strict in (("strict_less", True), ("less_or_equal", False)):
            precise = inside(self.fake, self.real, radii[0], is_strict)
            recalled = inside(self.real, self.fake, radii[1], is_strict)
            yield f".{name}.precision", (precise.per_point > 0).double().mean()
            yield f".{name}.recall", (recalled.per_point > 0).double().mean()
            yield f".{name}.density", precise.per_point.double().mean() / k
            yield f".{name}.coverage", (precise.per_ball > 0).double().mean()

    def authenticity(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        yield "", authenticity_percent(self.real, self.fake)

    def infinity(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        found = frechet_infinity(moments(self.real), self.fake, len(entry["sizes"]))
        yield from (("", found.value), (".slope", found.slope))
        yield from ((".sizes", found.sizes), (".fds", found.distances))

    def classes(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        arrays = self.case.arrays
        labels = arrays["labels_real"], arrays["labels_fake"]
        known = [*entry["per_class"], *entry["missing_classes"]]
        count = 1 + max(map(int, known))
        found = per_class_distances(self.real, labels[0], self.fake, labels[1], count)
        yield from ((f".per_class.{label}", found.distances[label]) for label in found.distances)
        yield ".mean_over_present_classes", found.mean
        yield ".missing_classes", found.missing

    def score(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        logits = self.case.arrays["logits"]
        if "chunk" in entry:
            # ADM's parts have a fixed size, of which the last may be smaller.
            scores = [inception_score(part, 1).mean for part in logits.split(entry["chunk"])]
            yield from ((".mean", np.mean(scores)), (".std", np.std(scores)))
            return
        if match[0].endswith("torch_fidelity"):
            logits = logits[np.random.RandomState(2020).permutation(len(logits))]
        found = inception_score(logits, {"one": 1}.get(match[1]) or int(match[1]))
        yield from ((".mean", found.mean), (".std", found.std))

    def accuracy(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        arrays = self.case.arrays
        yield "", top_k_accuracy(arrays["logits"], arrays["labels"], int(match[1]))

    def against_file(self, match: re.Match[str], entry: dict[str, Any]) -> Parts:
        suffix = "_s" if match[1] == "sfid" else ""
        reference = load(self.beside("reference"))
        known = Moments(0, reference[f"mu{suffix}"], reference[f"sigma{suffix}"])
        rows = features(load(self.case.folder / f"{match[2]}.npz"), match[3])
        yield "", frechet_distance(known, moments(rows))


TOOLS: dict[str, Callable[[Tools, re.Match[str], dict[str, Any]], Parts]] = {
    r"fd|sfid|fd_divided_by_n": Tools.frechet,
    r"kid_full_unbiased": Tools.kernel,
    r"kid_(subsets|torch_fidelity)": Tools.subsets,
    r"(precision|recall|density|coverage)_k(\d+)": Tools.balls,
    r"adm_precision_recall": Tools.adm,
    r"strict_vs_weak_k(\d+)": Tools.comparisons,
    r"authenticity_percent": Tools.authenticity,
    r"fd_infinity_prefix": Tools.infinity,
    r"intra_class_fd": Tools.classes,
    r"is_(\d+|one)_splits?(_in_order|_torch_fidelity)?": Tools.score,
    r"is_(adm_chunks)": Tools.score,
    r"accuracy_top(\d+)": Tools.accuracy,
    r"(fd|sfid)_of_(.+)_(real|fake)_against_reference": Tools.against_file,
}


def features(arrays: Values, side: str) -> Tensor | None:
    """Rows of a side; of maps the first channels of all places."""
    maps = arrays.get(f"{side}_nhwc")
    return arrays.get(side) if maps is None else maps[..., :SPATIAL].flatten(1)


def resized(case: Case) -> Values:
    ours = {}
    for name, stored in case.arrays.items():
        if not name.endswith(tuple(FILTERS)):
            continue
        image, side, kind = name.split("_", 2)
        result = resize.FILTERS[FILTERS[kind]](case.images(f"{image}_u8"), int(side))[0].permute(
            1, 2, 0
        )
        step = -(-int(side) // len(stored))  # of large ones only some rows and columns are stored
        ours[name] = result[::step, ::step]
    return ours


def inception(case: Case) -> Values:
    network = Inception(formula_weights(case.about))
    ours: Values = {}
    earlier: Values = {}
    for width, block in INPUTS.items():
        getattr(network.network, block).register_forward_pre_hook(
            lambda _, given, width=width: earlier.update({width: given[0].mean(dim=(2, 3))})
        )
    for name in [name for name in case.arrays if name.startswith("images_")]:
        images, prefix = case.images(name), name.removeprefix("images_")
        features = network(images)
        found = earlier | {"2048": features.pooled, "logits_unbiased": features.logits}
        found["spatial"] = features.spatial.unflatten(1, (SPATIAL, 17, 17))
        found["logits"] = found["logits_unbiased"] + network.network.fc.bias
        ours |= {f"{prefix}_{key}": value for key, value in found.items()}
    return ours


def formula_weights(about: dict[str, Any]) -> Values:
    """Weights by the rule that the case states."""
    weights = {}
    for name, shape in about["tensor_names_and_shapes"].items():
        seed = np.random.PCG64(crc32((about["salt"] + name).encode()))
        z = np.asarray(np.random.Generator(seed).standard_normal(shape))
        if name.endswith(".conv.weight"):
            z = z * np.sqrt(2 / np.prod(shape[1:]))
        elif name == "fc.weight":
            z = z * 3 * np.sqrt(1 / 2048)
        elif name.endswith(".bn.weight"):
            z = 1 + 0.1 * z
        elif name.endswith(".running_var"):
            z = np.exp(0.2 * z)
        elif name.endswith(".num_batches_tracked"):
            z = 0 * z
        else:
            z = 0.1 * z
        weights[name] = torch.from_numpy(np.asarray(z)).float()
    return weights
