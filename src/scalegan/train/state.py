"""What training changes: networks, optimizers, average, counters; and how one turn moves them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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
    MixesStyles,
    Share,
    Terms,
    TracksStyle,
)
from scalegan.losses.objective import Objective
from scalegan.runtime import parallel, sharding
from scalegan.runtime.rng import seed_all, stream
from scalegan.runtime.world import World
from scalegan.train.ema import update_average
from scalegan.train.finite import is_sound, largest, name_bad

Report = dict[str, Tensor]


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
    bad: str = ""
    """The first tensor of the last turn that was not finite, where one was not."""
    wants_stop: Callable[[], bool] = bool
    """Whether this rank wishes to stop; asked once per turn, and told to all in its reduction."""
    is_stopping: bool = False
    """Whether any rank wished to, the same on all."""
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Styles and levels of the discriminator's turn, with their graph, by micro-batch."""
    reals: dict[int, Tensor] = field(default_factory=dict)
    """Real samples of this step, by micro-batch."""
    molds: dict[str, nn.Module] = field(default_factory=dict)
    """Forms of the networks that `whole` is asked for, where they are sharded; else empty."""
    moved: set[str] = field(default_factory=set)
    """Networks that this process has moved at least once."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def is_sharded(self) -> bool:
        return bool(self.molds)

    def whole(self, name: str) -> Any:
        """The average or the discriminator, for use by one rank; every rank must call it."""
        network: nn.Module = getattr(self, name)
        return sharding.whole(network, self.molds[name]) if self.is_sharded else network

    def begin(self, network: nn.Module, share: Share, turn: int) -> None:
        """Prepare one network's turn: its randomness, its gradients, a way back."""
        key = (self.config.seed, self.attempt, self.world.rank, self.step)
        seed_all(*key, "turn", turn)
        # One z for both networks where the method shares it; the draws are made on the CPU.
        self.noise = stream(*key, "noise", *(() if self.config.train.share_noise else (turn,)))
        # With one z the generator need not run twice: nothing it depends on moves in between.
        self.keeps_fake = self.config.train.share_noise and len(share) == 1
        self.discriminator.requires_grad_(network is self.discriminator)
        self.styles: list[tuple[Tensor, Labels]] = []
        self.before = [buffer.clone() for buffer in self.moving_buffers]

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
        is_reduced = self.config.train.precision == "bfloat16"
        objective = self.config.objective
        is_twice = objective.penalty.kind == "exact" or objective.path_length.weight > 0
        with ExitStack() as stack:
            keeps_casts = parallel.keeps_casts(self.config.train.recompute)
            precision = torch.autocast(
                self.world.device.type,
                torch.bfloat16,
                enabled=is_reduced,
                cache_enabled=keeps_casts,
            )
            stack.enter_context(precision)
            if is_twice:  # fused attention has no second derivative
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def draw_noise(self, labels: Labels) -> Float[Tensor, "N *Z"]:
        z = torch.randn(len(labels), *self.generator.z_shape, generator=self.noise)
        return z.to(self.world.device)

    def mix(self, w: Float[Tensor, "N *S"], labels: Labels) -> Float[Tensor, "N *S"]:
        """With some probability, other styles from a random layer on; else w as it is."""
        share = self.config.train.style_mixing
        if share == 0 or torch.rand((), generator=self.noise) >= share:
            return w
        assert isinstance(self.generator, MixesStyles), "checked when the state is built"
        other = self.generator.map(self.draw_noise(labels), labels)
        cut = torch.randint(1, self.generator.num_styles, (), generator=self.noise)
        return self.generator.mix(w, other, int(cut))

    def track(self, w: Float[Tensor, "N *S"], labels: Labels) -> None:
        """Keep a micro-batch's styles for the running means, if the generator has them."""
        if isinstance(self.generator, TracksStyle):
            self.styles.append((w.detach().float(), labels))

    def track_kept(self) -> None:
        """Move the running means once per step, by the styles of all micro-batches and ranks."""
        if isinstance(self.generator, TracksStyle):
            parts = (torch.cat(part) for part in zip(*self.styles, strict=True))
            self.generator.track(*map(self.world.gather, parts))

    def backward(self, terms: Terms, weight: float) -> Report:
        """Add `weight` times the gradient of the mean loss; return the same share of all terms."""
        total = torch.stack(list(terms.losses.values())).sum(dim=0).mean()
        (total * weight).backward()
        return {
            name: value.detach().mean() * weight
            for name, value in (terms.losses | terms.watched).items()
        }

    def finish(self, name: str, report: Report) -> Report:
        """Average over ranks; move the network and its average, if all is finite.

        This is the only place in a step that waits for the device. A value that is not finite
        moves nothing: no weight, no average, no optimizer, and buffers that the forward passes
        have moved are put back. The wish to stop rides along, so that all ranks stop at one step.
        """
        network, optimizer = self.networks[name], self.optimizers[name]
        if name not in self.moved:
            refuse_missing_gradients(name, network)
            self.moved.add(name)
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
                self.track_kept()
                train = self.config.train
                decay = train.ema_decay if self.step + 1 >= train.ema_start else 0.0
                update_average(self.average, network, decay, train.ema_buffers)
        else:
            self.bad = name_bad(self.suspects(name, report), self.world)
            for buffer, before in zip(self.moving_buffers, self.before, strict=True):
                buffer.copy_(before)
        optimizer.zero_grad(set_to_none=True)
        return report

    def suspects(self, name: str, report: Report) -> Iterator[tuple[str, Tensor]]:
        """Tensors of a turn in the order in which they come to be, to find the first bad one."""
        for sample in self.reals.values():
            yield "real samples", sample
        for network_name, network in self.networks.items():
            for key, value in network.state_dict().items():
                yield f"{network_name}.{key}", value
        for w, fake in self.kept.values():
            yield "style w", w
            yield "fake samples", fake
        yield from (item for item in report.items() if not item[0].endswith("/grad_norm"))
        for key, parameter in self.networks[name].named_parameters():
            if parameter.grad is not None:
                yield f"gradient of {name}.{key}", parameter.grad


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
