"""What training changes: networks, optimizers, average, counters; and how one turn moves them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.errors import TrainingError
from scalegan.interfaces import (
    Autoencoder,
    DiscriminatorModule,
    GeneratorModule,
    Labels,
    Share,
    Terms,
    TracksStyle,
)
from scalegan.losses.objective import Objective
from scalegan.runtime import parallel, sharding
from scalegan.runtime.rng import seed_all, stream
from scalegan.runtime.world import World
from scalegan.settings import Config
from scalegan.train.ema import update_average

Report = dict[str, Tensor]


@dataclass
class TrainState:
    """Everything a step reads and moves.

    `step` counts updates of both networks, `images_seen` the real images of them; `attempt` rises
    when a run is rolled back, and is part of every seed.
    """

    config: Config
    world: World
    generator: GeneratorModule
    discriminator: DiscriminatorModule
    average: GeneratorModule
    optimizers: dict[str, torch.optim.Optimizer]
    autoencoder: Autoencoder
    objective: Objective
    step: int = 0
    images_seen: int = 0
    attempt: int = 0
    shards: str = ""
    """Fingerprint of the prepared data; empty for a source that is held in memory."""
    is_finite: bool = True
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

    def whole(self, name: str) -> nn.Module:
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
        ]

    def autocast(self) -> AbstractContextManager[None]:
        is_reduced = self.config.train.precision == "bfloat16"
        return torch.autocast(
            self.world.device.type,
            torch.bfloat16,
            enabled=is_reduced,
            cache_enabled=parallel.keeps_casts(self.config.train.recompute),
        )

    def draw_noise(self, labels: Labels) -> Float[Tensor, "N *Z"]:
        z = torch.randn(len(labels), *self.generator.z_shape, generator=self.noise)
        return z.to(self.world.device)

    def track(self, w: Float[Tensor, "N *S"], labels: Labels) -> None:
        """Keep a micro-batch's styles for the running means, if the generator has them."""
        if isinstance(self.generator, TracksStyle):
            self.styles.append((w.detach().float(), labels))

    def track_kept(self) -> None:
        """Move the running means once per step, by the styles of all micro-batches and ranks."""
        if self.styles:
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
        have moved are put back.
        """
        network, optimizer = self.networks[name], self.optimizers[name]
        if name not in self.moved:
            refuse_missing_gradients(name, network)
            self.moved.add(name)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        # Gradients of sharded weights are averaged by the backward pass.
        self.world.mean_([*([] if self.is_sharded else gradients), *report.values()])
        norm = sharding.full(torch.nn.utils.get_total_norm(gradients))
        report = report | {f"{name[0]}/grad_norm": norm}
        self.is_finite = bool(torch.stack(list(report.values())).isfinite().all())
        if self.is_finite:
            most = self.config.optim.max_grad_norm
            torch.nn.utils.clip_grads_with_norm_(network.parameters(), most, norm)
            optimizer.step()
            if name == "generator":
                self.track_kept()
                update_average(self.average, network, self.config.train.ema_decay)
        else:
            for buffer, before in zip(self.moving_buffers, self.before, strict=True):
                buffer.copy_(before)
        optimizer.zero_grad(set_to_none=True)
        return report


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
