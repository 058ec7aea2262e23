"""What training changes: networks, optimizers, average, counters; and how one turn moves them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scalegan.config.schema import Config
from scalegan.errors import TrainingError
from scalegan.interfaces import (
    Autoencoder,
    Discriminator,
    Generator,
    Labels,
    Levels,
    LevelsOrOne,
    MixesStyles,
    Share,
    Terms,
    TracksStyle,
)
from scalegan.losses.objective import Objective
from scalegan.runtime import parallel, sharding
from scalegan.runtime.rng import seed_all, stream
from scalegan.runtime.world import World
from scalegan.train.finite import is_sound, largest, name_bad
from scalegan.train.optim import update_average

Report = dict[str, Tensor]


class Fakes(NamedTuple):
    """Fake samples of one micro-batch, and the styles that they were made of."""

    w: Float[Tensor, "N *S"]
    levels: Levels


class WholeForms(NamedTuple):
    """Networks on the meta device as they were before they were sharded: how to make whole ones."""

    average: Generator
    discriminator: Discriminator


@dataclass
class Turn:
    """One network's update within a step: its data, its noise, and what to put back if it fails.

    The lists hold one entry per micro-batch of the share, in order.
    """

    name: str
    """"generator" or "discriminator"."""
    share: Share
    noise: torch.Generator
    """Stream that z is drawn from, on the CPU."""
    buffers: list[Tensor]
    """Copies of `TrainState.moving_buffers` from before the turn."""
    reuses_fakes: bool
    """Whether fake samples are made once for both turns, with their graph."""
    reals: list[LevelsOrOne] = field(default_factory=list)
    fakes: list[Fakes] = field(default_factory=list)
    """Of the discriminator's turn; empty where the generator's turn makes its own."""
    styles: list[tuple[Float[Tensor, "N *S"], Labels]] = field(default_factory=list)
    """Of the generator's turn, for running means."""


@dataclass
class TrainState:
    """Everything a step reads and moves.

    `step` counts updates of both networks, `images_seen` the real images of them; `attempt` rises
    when a run is rolled back, and is part of every seed.
    """

    config: Config
    world: World
    generator: Generator
    discriminator: Discriminator
    average: Generator
    optimizers: dict[str, torch.optim.Optimizer]
    autoencoder: Autoencoder
    objective: Objective
    step: int = 0
    images_seen: int = 0
    attempt: int = 0
    shards: str = ""
    """Fingerprint of the data."""
    is_finite: bool = True
    """Whether all values of the last turn were finite."""
    first_bad: str = ""
    """The first tensor of the last turn that was not finite, where one was not."""
    wants_stop: Callable[[], bool] = bool
    """Whether this rank wishes to stop; asked once per turn, and sent to all in its reduction."""
    is_stopping: bool = False
    """Whether any rank wished to, the same on all."""
    whole_forms: WholeForms | None = None
    """Of sharded networks; None where they are not sharded."""
    verified: set[str] = field(default_factory=set)
    """Networks that have been seen to get a gradient for each of their parameters."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def is_sharded(self) -> bool:
        return self.whole_forms is not None

    def whole_average(self) -> Generator:
        """The average for use by one rank; every rank must call it, as it may be sharded."""
        form = self.whole_forms
        return self.average if form is None else sharding.whole(self.average, form.average)

    def whole_discriminator(self) -> Discriminator:
        """The discriminator for use by one rank; every rank must call it, as it may be sharded."""
        form = self.whole_forms
        if form is None:
            return self.discriminator
        return sharding.whole(self.discriminator, form.discriminator)

    def begin(
        self,
        name: str,
        share: Share,
        number: int,
        reals: Sequence[LevelsOrOne] = (),
        fakes: Sequence[Fakes] = (),
    ) -> Turn:
        """Prepare one network's turn: its randomness, its gradients, a way back.

        Args:
            name: "generator" or "discriminator".
            number: of the turn in its step, from 0.
            reals: samples of the preceding turn on the same share.
            fakes: the same, where they are reused.
        """
        key = (self.config.seed, self.attempt, self.world.rank, self.step)
        seed_all(*key, "turn", number)
        self.discriminator.requires_grad_(name == "discriminator")
        shares_noise = self.config.train.share_noise
        return Turn(
            name,
            share,
            # One z for both networks where the method shares it.
            noise=stream(*key, "noise", *(() if shares_noise else (number,))),
            buffers=[buffer.clone() for buffer in self.moving_buffers],
            # With one z the generator need not run twice: nothing it depends on moves in between.
            # Graphs of several micro-batches would take the memory that cutting them saves.
            reuses_fakes=shares_noise and len(share) == 1,
            reals=list(reals),
            fakes=list(fakes),
        )

    @cached_property
    def moving_buffers(self) -> list[Tensor]:
        """Buffers that forward passes move: those that are saved, and no parameters."""
        return [
            value
            for network in self.networks.values()
            for value in network.state_dict(keep_vars=True).values()
            if not isinstance(value, nn.Parameter)
        ] + list(self.objective.memory.values())

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision of forward passes, and kernels that can be differentiated as needed."""
        train = self.config.train
        precision = torch.autocast(
            self.world.device.type,
            torch.bfloat16,
            enabled=train.precision == "bfloat16",
            cache_enabled=parallel.keeps_casts(train.recompute),
        )
        # Fused attention has no second derivative.
        is_twice = self.config.objective.needs_second_derivatives
        with precision, sdpa_kernel(SDPBackend.MATH) if is_twice else nullcontext():
            yield

    def draw_noise(self, turn: Turn, labels: Labels) -> Float[Tensor, "N *Z"]:
        """Noise for some labels, from the turn's stream."""
        z = torch.randn(len(labels), *self.generator.z_shape, generator=turn.noise)
        return z.to(self.world.device)

    def mix_styles(
        self, turn: Turn, w: Float[Tensor, "N *S"], labels: Labels
    ) -> Float[Tensor, "N *S"]:
        """With some probability, other styles from a random layer on; else w as it is."""
        probability = self.config.train.style_mixing
        if probability == 0 or torch.rand((), generator=turn.noise) >= probability:
            return w
        assert isinstance(self.generator, MixesStyles), "checked when the state is built"
        other = self.generator.map(self.draw_noise(turn, labels), labels)
        cut = torch.randint(1, self.generator.num_styles, (), generator=turn.noise)
        return self.generator.mix(w, other, int(cut))

    def track_styles(self, turn: Turn) -> None:
        """Move the running means once per step, by the styles of all micro-batches and ranks."""
        if isinstance(self.generator, TracksStyle):
            parts = (torch.cat(part) for part in zip(*turn.styles, strict=True))
            self.generator.track(*map(self.world.gather, parts))

    def backward(self, terms: Terms, weight: float) -> Report:
        """Add `weight` times the gradient of the mean loss; return the same share of all terms."""
        total = torch.stack(list(terms.losses.values())).sum(dim=0).mean()
        (total * weight).backward()
        return {
            name: value.detach().mean() * weight
            for name, value in (terms.losses | terms.watched).items()
        }

    def finish(self, turn: Turn, report: Report) -> Report:
        """Average over ranks; move the network and its average, if all is finite.

        This is the only place in a step that waits for the device. A value that is not finite
        moves nothing: no weight, no average, no optimizer, and buffers that the forward passes
        have moved are put back. The wish to stop rides along, so that all ranks stop at one step.
        """
        name = turn.name
        network, optimizer = self.networks[name], self.optimizers[name]
        if name not in self.verified:
            refuse_missing_gradients(name, network)
            self.verified.add(name)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        buffers = largest(self.moving_buffers, self.world.device)
        wish = torch.tensor(float(self.wants_stop()), device=self.world.device)
        remembered = self.objective.memory.values()
        # Gradients of sharded weights are averaged by the backward pass.
        to_average = [] if self.is_sharded else gradients
        self.world.mean_([*to_average, *report.values(), *remembered, buffers, wish])
        norm = sharding.full(torch.nn.utils.get_total_norm(gradients))
        report = report | {f"{name[0]}/grad_norm": norm}
        self.is_finite, is_stopping = is_sound([*report.values(), buffers], wish)
        self.is_stopping |= is_stopping
        if self.is_finite:
            most = self.config.optim.max_grad_norm
            torch.nn.utils.clip_grads_with_norm_(network.parameters(), most, norm)
            optimizer.step()
            if name == "generator":
                self.track_styles(turn)
                train = self.config.train
                decay = train.ema_decay if self.step + 1 >= train.ema_start else 0.0
                update_average(self.average, network, decay, train.ema_buffers)
        else:
            self.first_bad = name_bad(self.suspects(turn, report), self.world)
            for buffer, before in zip(self.moving_buffers, turn.buffers, strict=True):
                buffer.copy_(before)
        optimizer.zero_grad(set_to_none=True)
        return report

    def suspects(self, turn: Turn, report: Report) -> Iterator[tuple[str, Tensor]]:
        """Tensors of a turn in the order in which they come to be, to find the first bad one."""
        for real in turn.reals:
            yield "real samples", real
        for network_name, network in self.networks.items():
            for key, value in network.state_dict().items():
                yield f"{network_name}.{key}", value
        for w, levels in turn.fakes:
            yield "style w", w
            yield "fake samples", levels
        yield from (item for item in report.items() if not item[0].endswith("/grad_norm"))
        for key, parameter in self.networks[turn.name].named_parameters():
            if parameter.grad is not None:
                yield f"gradient of {turn.name}.{key}", parameter.grad


def refuse_missing_gradients(name: str, network: nn.Module) -> None:
    """Some combinations of sharding and second derivatives leave gradients out without an error.

    Raises:
        TrainingError: if a parameter that is trained got no gradient.
    """
    for parameter, value in network.named_parameters():
        if value.requires_grad and value.grad is None:
            raise TrainingError(
                f"`{parameter}` of the {name} got no gradient in its first turn",
                "it takes no part in any loss, or `train.parallel` cannot carry this one",
            )
