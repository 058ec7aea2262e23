"""How our outputs are compared with recorded ones: the tolerances of a file, as rules.

A file states its tolerances in short sentences. Every form that occurs is read here; a sentence of
another form is an error, so that no tolerance is guessed.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

Outputs = dict[str, Tensor]

# Names that are not compared, and why.
SKIPPED = {
    "disc.grad.final_layer.1.bias": "its true gradient is zero : rounding noise",
    "*.discriminator.final_layer.1.bias": "the same noise, after Adam has scaled it to full steps",
}

# What the words of the files stand for, the first that fits.
WORDS = {
    "w_avg": "*.w_avg",
    "gradient norms": "*.grad_norm",
    "losses": "*.loss",
    "average": "*.average.*",
    "parameters": "*.generator.*, *.discriminator.*",
    "everything else": "*",
}

NUMBER = r"(\d+(?:\.\d*)?(?:e[-+]?\d+)?)"


@dataclass(frozen=True)
class Close:
    """Every element within atol + rtol * |reference|; whole numbers and booleans exactly."""

    rtol: float
    atol: float
    atol_float64: float | None = None

    def fault(self, name: str, ours: Tensor, reference: Tensor) -> str:
        is_float64 = reference.dtype == torch.float64 and self.atol_float64 is not None
        atol = self.atol_float64 if is_float64 else self.atol
        limit = atol + self.rtol * reference.double().abs()
        if not reference.is_floating_point():
            limit = torch.zeros(())
        difference = (ours.double() - reference.double()).abs()
        if (difference <= limit).all():
            return ""
        return f"differs by up to {difference.max():.3g}, allowed is {limit.min():.3g}"


@dataclass(frozen=True)
class CloseNorm:
    """The norm of the difference, within atol + rtol * the norm of the reference."""

    rtol: float
    atol: float

    def fault(self, name: str, ours: Tensor, reference: Tensor) -> str:
        difference = (ours.double() - reference.double()).norm()
        limit = self.atol + self.rtol * reference.double().norm()
        return "" if difference <= limit else f"differs by {difference:.3g} of {limit:.3g} allowed"


@dataclass(frozen=True)
class Mostly:
    """Differences in units of the learning rate: how many elements may lie above which limit.

    The fractions are over all tensors of a group (`0.generator`). Of a single tensor at least half
    of the elements must be within `usual`, and all within `most` per iteration.
    """

    unit: float
    fractions: tuple[tuple[float, float], ...]
    usual: float
    most: float

    def fault(self, name: str, ours: Tensor, reference: Tensor) -> str:
        reference = reference.double()
        difference = (ours.double() - reference).abs()
        rounding = 1.2e-7 * reference.abs()  # large weights are stored more coarsely than they move
        inside = difference <= self.usual * self.unit + rounding
        if inside.double().mean() < 0.5:
            return f"half of it is off by more than {self.usual} learning rates"
        limit = self.most * self.unit * (1 + int(name.split(".")[0]))
        if (difference <= limit + rounding).all():
            return ""
        return f"is off by up to {difference.max() / self.unit:.3g} learning rates"

    def outside(self, ours: Tensor, reference: Tensor) -> Tensor:
        """How many elements lie above each limit."""
        difference = (ours.double() - reference.double()).abs() / self.unit
        return torch.stack([(~(difference <= limit)).sum() for limit, _ in self.fractions])


Rule = Close | CloseNorm | Mostly


class Tolerance:
    """The rules of one file.

    Args:
        sentences: the `tolerance` of its JSON.
        learning_rate: of the recorded training, where there was one.
    """

    def __init__(self, sentences: dict[str, str], learning_rate: float = 0.0) -> None:
        explicit = sorted((key for key in sentences if key.startswith("out.")), key=len)
        unknown = set(sentences) - set(explicit) - set(WORDS)
        if unknown:
            raise ValueError(f"no reading for the tolerance of {sorted(unknown)}")
        self.rules: list[tuple[str, Rule]] = []
        for key in [*reversed(explicit), *WORDS]:  # the more a pattern says, the earlier it counts
            if key in sentences:
                rule = read_rule(sentences[key], learning_rate)
                patterns = WORDS.get(key, key).replace("out.", "").split(", ")
                self.rules += [(pattern, rule) for pattern in patterns]
        self.rules.append(("*", Close(rtol=1e-5, atol=5e-5)))  # what the GAT files have in common

    def rule(self, name: str) -> Rule:
        return next(rule for pattern, rule in self.rules if fnmatchcase(name, pattern))


def read_rule(sentence: str, learning_rate: float = 0.0) -> Rule:
    """One sentence of a `tolerance`, e.g. `rtol 1e-5, atol 5e-5`."""

    def numbers(pattern: str) -> list[float]:
        match = re.search(pattern.replace("#", NUMBER), sentence)
        return [float(group) for group in match.groups()] if match else []

    if found := numbers(r"norm of the difference <= # \* norm of the reference \+ #"):
        return CloseNorm(*found)
    if found := numbers(r"median < #, 90th percentile < #, 99th < #, fraction above # < #"):
        half, tenth, hundredth, limit, fraction = found
        limits = ((half, 0.5), (tenth, 0.1), (hundredth, 0.01), (limit, fraction))
        # Adam moves an element by up to 1.42 learning rates a step; its sign may be rounding.
        return Mostly(learning_rate, limits, usual=0.01, most=3)
    if found := numbers(r"atol # \* learning rate for all but # % of the elements"):
        # The limit of the file is wider than the average moves; this sees a wrong decay.
        return Mostly(learning_rate, ((found[0], found[1] / 100),), usual=3e-4, most=0.1)
    rtol, atol = numbers(r"rtol #"), numbers(r"atol #")
    if not rtol and not atol:
        raise ValueError(f"no reading for the tolerance `{sentence}`")
    tables = numbers(r"float64 tables #")
    return Close(*(rtol or [0.0]), *(atol or [0.0]), *tables)


def is_skipped(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in SKIPPED)


class Verdict(NamedTuple):
    """What one tensor says: its own fault, if any, and what it adds to its group."""

    fault: str
    group: str = ""
    rule: Mostly | None = None
    outside: Sequence[int] = ()
    elements: int = 0


def verdict(name: str, ours: Outputs, theirs: Tensor, rule: Rule) -> Verdict:
    if name not in ours:
        return Verdict("is recorded but we compute nothing to compare it with")
    mine = ours[name]
    if mine.shape != theirs.shape:
        return Verdict(f"has shape {tuple(mine.shape)}, recorded is {tuple(theirs.shape)}")
    fault = rule.fault(name, mine, theirs)
    if fault or not isinstance(rule, Mostly):
        return Verdict(fault)
    group = ".".join(name.split(".")[:2])
    return Verdict("", group, rule, rule.outside(mine, theirs).tolist(), theirs.numel())


def judge_all(ours: Outputs, reference: Outputs, tolerance: Tolerance) -> dict[str, Verdict]:
    """A verdict on every recorded tensor but those that are `SKIPPED`."""
    return {
        name: verdict(name, ours, theirs, tolerance.rule(name))
        for name, theirs in reference.items()
        if not is_skipped(name)
    }


def faults(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """What is wrong, by name or group; empty if all agrees."""
    found = {name: verdict.fault for name, verdict in verdicts.items() if verdict.fault}
    groups = defaultdict(list)
    for verdict in verdicts.values():
        if verdict.rule:
            groups[verdict.group].append(verdict)
    for group, members in groups.items():
        elements = sum(member.elements for member in members)
        for i, (limit, fraction) in enumerate(members[0].rule.fractions):
            count = sum(member.outside[i] for member in members)
            if count > fraction * elements:
                found[f"{group}.*"] = f"{count} of {elements} elements are off by > {limit}"
    return found
