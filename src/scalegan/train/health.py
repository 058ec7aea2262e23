"""Alarms for runs that are about to fail: it reads what is logged, and never steers.

The record of a run (`metrics.jsonl`) is all it knows: a resumed run reads it again and goes on as
one that was not stopped. What a healthy value is, the run's own past says (a running band, the
median of what was seen and raised no suspicion), and for diversity the real images.

Overfitting follows ADA (arXiv 2006.06676, eq. 1): how far held-out logits have moved from training
ones towards fake ones. Limits were set on other runs than those in docs/results.md.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from scalegan.data.memory import Dataset
from scalegan.inference.sampling import noise_for
from scalegan.interfaces import Batch, Labels, Levels
from scalegan.runtime.log import Log
from scalegan.runtime.rng import seed_all, stream
from scalegan.train.state import TrainState

DIVERSITY_CLASSES, IMAGES_PER_CLASS = 4, 8
"""Of the fixed batch that diversity is measured on."""
LOGIT_IMAGES = 64
"""Images of each set whose logits are averaged."""
WARM_UP = 10
"""Lines of the record before a band is believed."""
BAND = 50
"""Lines that a band remembers."""
IN_A_ROW = 4
"""Suspicious lines before an alarm."""

Values = Mapping[str, Any]


@dataclass
class Band:
    """The typical value of the recent past, moved only by lines that raised no suspicion."""

    values: deque[float] = field(default_factory=lambda: deque(maxlen=BAND))

    def typical(self) -> float | None:
        """The median, once enough was seen."""
        return median(self.values) if len(self.values) >= WARM_UP else None


@dataclass
class Rule:
    """One alarm: when a line is suspicious, and what to do about it."""

    name: str
    value: Callable[[Values], float | None]
    """The number that decides; None where a line does not hold it."""
    is_suspicious: Callable[[float, float | None], bool]
    """Of the value and the band's median, which is None at first."""
    says: str
    advice: str
    band: Band = field(default_factory=Band)
    in_a_row: int = 0

    def read(self, line: Values) -> str:
        """Take a line in; a sentence if it completes an alarm, one per episode, else ""."""
        value = self.value(line)
        if value is None:
            return ""
        if not self.is_suspicious(value, self.band.typical()):
            self.band.values.append(value)
            self.in_a_row = 0
            return ""
        self.in_a_row += 1
        if self.in_a_row != IN_A_ROW:
            return ""
        typical = self.band.typical()
        usual = "" if typical is None else f" (usually {typical:.3g})"
        return f"{self.says}: {value:.3g}{usual}; {self.advice}"


def get(name: str) -> Callable[[Values], float | None]:
    return lambda line: line.get(name)


def overfit(line: Values) -> float | None:
    """0 where held-out images look as real as training ones, 1 where they look fake."""
    names = ("health/training_logits", "health/held_out_logits", "health/fake_logits")
    training, held_out, fake = (line.get(name) for name in names)
    if training is None or held_out is None or fake is None:
        return None
    if line["health/sign_rate"] < 0.9 or training - fake < 1:
        return 0.0  # a discriminator that hardly tells real from fake has not memorized anything
    return (training - held_out) / (training - fake)


def won(line: Values) -> float | None:
    """The logit gap, where each real sample has a larger logit than its fake partner; else 0."""
    gap, rate = line.get("health/logit_gap"), line.get("health/sign_rate")
    return None if gap is None or rate is None else gap * (rate == 1)


def rules() -> list[Rule]:
    """All alarms, before the first line."""
    penalties = "lower `optim.learning_rate`, or raise `objective.penalty`"
    return [
        Rule(
            "collapse",
            get("health/diversity"),
            lambda x, usual: usual is not None and x < min(0.4, 0.6 * usual),
            "images of one class hardly differ, in units of how much real ones do",
            f"go back to an earlier checkpoint with --resume, and {penalties}",
        ),
        Rule(
            "overfitting discriminator",
            overfit,
            lambda x, usual: usual is not None and x > 0.6,
            "the discriminator takes held-out images for fake ones",
            "augment more, add images, or end the run here",
        ),
        Rule(
            "discriminator has won",
            won,
            lambda x, usual: usual is not None and x > max(20.0, 6 * usual),
            "the discriminator tells every pair apart and its logits drift away",
            "raise `objective.penalty.r1` and `r2`, augment more, or lower the rate",
        ),
        Rule(
            "vanishing gradient",
            get("g/grad_norm"),
            lambda x, usual: x == 0 or (usual is not None and x < 0.01 * usual),
            "the generator's gradient has all but vanished",
            "the discriminator gives it nothing to learn from: lower its advantage by stronger "
            "`objective.penalty` or augmentation",
        ),
        *(
            Rule(
                f"penalty {name}",
                get(f"d/{name}_penalty"),
                lambda x, usual: usual is not None and x > max(2.0, 20 * usual),
                f"the loss term d/{name}_penalty has grown out of its band",
                penalties,
            )
            for name in ("r1", "r2")
        ),
    ]


class Health:
    """Reads the lines of a run's record, one by one.

    Args:
        lines: what was recorded before.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self.rules = rules()
        for line in lines:
            self.read(line)

    def read(self, line: Mapping[str, Any]) -> dict[str, str]:
        """Take a line in; the alarms that it raises by name, each a sentence."""
        found = {rule.name: rule.read(line) for rule in self.rules}
        return {name: sentence for name, sentence in found.items() if sentence}

    def record(self, log: Log, step: int, images_seen: int, values: Mapping[str, float]) -> None:
        """Record a line, and an alarm for what is wrong with it."""
        log.record(step, images_seen, values)
        for name, sentence in self.read(values).items():
            log.say(f"alarm at step {step:,}: {name}: {sentence}", style="yellow")
            log.record(step, images_seen, {"alarm": name, "says": sentence})


Probe = Callable[[TrainState], dict[str, float]]


def build_probe(
    state: TrainState, rows: Dataset, held_out: Batch | None, class_names: list[str]
) -> Probe:
    """What is measured for the record besides the losses: a fixed batch of noise, and logits.

    Args:
        rows: what is trained on.
        held_out: what is not.
    """
    device, seed = state.world.device, state.config.seed
    indices, labels = diversity_rows(rows.labels, len(class_names))
    real_spread = spread(_samples(state, rows.read(indices)), labels.to(device))
    # Images of all classes, for logits depend on the class.
    training = rows.read(torch.randperm(len(rows), generator=stream(seed, "health"))[:LOGIT_IMAGES])
    sets = {"training": training} | ({} if held_out is None else {"held_out": held_out})
    reals = {
        name: (_samples(state, batch), batch.labels.to(device)) for name, batch in sets.items()
    }
    all_labels = torch.cat([labels.to(device), reals["training"][1]])
    z = noise_for(range(len(all_labels)), state.generator.z_shape).to(device)

    @torch.no_grad()
    def probe(state: TrainState) -> dict[str, float]:
        with eval_mode(*state.networks.values()), state.autocast():
            seed_all(seed, "health")
            fake = state.generator.synthesize(state.generator.map(z, all_labels))
            fixed, fake = fake[: len(labels), -1], fake[len(labels) :]
            found = {"health/diversity": spread(fixed, labels.to(device)) / max(real_spread, 1e-12)}
            logits = {"fake": _logits(state, fake, reals["training"][1])}
            for name, (samples, of) in reals.items():
                logits[name] = _logits(state, samples[:, None], of)
        gaps = logits["training"] - logits["fake"]
        found |= {f"health/{name}_logits": value.mean().item() for name, value in logits.items()}
        found["health/logit_gap"] = gaps.mean().item()
        found["health/sign_rate"] = (gaps > 0).float().mean().item()
        return found

    return probe


def diversity_rows(
    labels: Labels, num_classes: int
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"]]:
    """The first rows of some classes: indices and labels, class by class."""
    found = []
    for label in torch.linspace(0, max(num_classes - 1, 0), DIVERSITY_CLASSES).long().unique():
        found.append((labels == label).nonzero().flatten()[:IMAGES_PER_CLASS])
    indices = torch.cat(found) if any(len(part) > 1 for part in found) else torch.arange(2)
    return indices, labels[indices]


def spread(samples: Tensor, labels: Labels) -> float:
    """The standard deviation within classes, over samples, mean square over all values."""
    parts = [samples[labels == label].float() for label in labels.unique()]
    variances = [part.var(dim=0).mean() for part in parts if len(part) > 1]
    return torch.stack(variances).mean().sqrt().item() if variances else 0.0


def _samples(state: TrainState, batch: Batch) -> Tensor:
    seed_all(state.config.seed, "health", "samples")
    return state.autoencoder.sample(batch.stored.to(state.world.device))


def _logits(state: TrainState, samples: Levels, labels: Labels) -> Tensor:
    view = state.objective.view(samples)
    return state.discriminator(view(samples), labels).logits.float().mean(1)


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Networks in eval mode, where they draw nothing and move no buffer; then as they were."""
    was_training = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, before in zip(networks, was_training, strict=True):
            network.train(before)
