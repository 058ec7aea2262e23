"""Faults to inject into a run, and parts of it broken on purpose: what a test must notice."""

import errno
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scalegan.runtime import files
from scalegan.runtime.files import Faults
from scalegan.runtime.world import World
from scalegan.train import checkpoint, loop, state

RANK = "RANK"


def at_point(point: str, nth: int, act: Callable[[], None]) -> None:
    """Act the n-th time (from 1) that a named moment of saving comes; "" is any moment."""
    count = 0

    def strike(name: str) -> None:
        nonlocal count
        count += point in ("", name)
        if count == nth and point in ("", name):
            act()

    Faults.strike = staticmethod(strike)


def draw_no_curves() -> None:
    """Leave out `curves.png`, which no other part of a run reads."""
    loop.plot_curves = lambda run: None


def short_trials() -> None:
    """Guess how long the runs of a comparison take from a moment instead of seconds."""
    from scalegan.reports import compare

    compare.TRIAL_SECONDS = 0.01


def kill_at(point: str, nth: int) -> None:
    at_point(point, nth, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fail_at(point: str, nth: int, number: int = errno.ENOSPC) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "checkpoint")

    at_point(point, nth, fail)


def before_step(number: int, rank: int, act: Callable[[], None]) -> None:
    """Act on one rank just before it makes a step."""
    train_step = loop.train_step

    def acting(of: state.TrainState, shares: Any) -> Any:
        if of.step == number and of.world.rank == rank:
            act()
        return train_step(of, shares)

    loop.train_step = acting


def signal_at(step: int, rank: int, number: int = signal.SIGTERM) -> None:
    before_step(step, rank, lambda: os.kill(os.getpid(), number))


def hang_at(step: int, rank: int) -> None:
    before_step(step, rank, lambda: time.sleep(1000))


def tell_saves() -> None:
    """Say at which step each rank saves."""
    save = loop.save_run

    def saying(built: Any, *rest: Any) -> None:
        print(f"saving at step {built.state.step} on rank {built.state.world.rank}", flush=True)
        save(built, *rest)

    loop.save_run = saying


# Values that are not finite


def digest_of(of: state.TrainState, parts: tuple[str, ...] = ("",)) -> str:
    """A hash of the parts of a train state whose names begin so."""
    found = hashlib.sha256()
    for name, value in sorted(checkpoint.state_tensors(of).items()):
        if name.startswith(parts):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


G_PARTS = ("generator", "average", "optimizer-generator")


def poison(plan: dict[str, tuple[str, float]], rank: int, most_attempts: int = 1) -> None:
    """Put a value into a site on one rank at some steps, and say what became of the state there.

    Args:
        plan: step (as text, for JSON) -> site and value.
        most_attempts: attempts that are poisoned; later ones are left alone.
    """
    train_step = loop.train_step

    def poisoned(of: state.TrainState, shares: Any) -> Any:
        site, value = plan.get(str(of.step), plan.get("all", ("", 0.0)))
        if not site or of.attempt >= most_attempts:
            return train_step(of, shares)
        before, g_before = digest_of(of), digest_of(of, G_PARTS)
        at = of.step
        if of.world.rank == rank:
            with SITES[site](of, float(value)):
                report = train_step(of, shares)
        else:
            report = train_step(of, shares)
        said = {"step": at, "site": site, "bad": of.first_bad, "is_finite": of.is_finite}
        said |= {"unchanged": before == digest_of(of), "after": digest_of(of)}
        said |= {"g_unchanged": g_before == digest_of(of, G_PARTS)}
        print("POISON " + json.dumps(said), flush=True)
        return report

    loop.train_step = poisoned


@contextmanager
def in_data(of: state.TrainState, value: float) -> Iterator[None]:
    sample = of.autoencoder.sample

    def bad(stored: torch.Tensor) -> torch.Tensor:
        samples = sample(stored).clone()
        samples[0, 0, 0, 0] = value
        return samples

    object.__setattr__(of.autoencoder, "sample", bad)
    yield
    object.__setattr__(of.autoencoder, "sample", sample)


@contextmanager
def in_forward(of: state.TrainState, value: float) -> Iterator[None]:
    def bad(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[0, 0, 0] = value
        return out

    hook = of.discriminator.blocks[1].register_forward_hook(bad)
    yield
    hook.remove()


def in_terms(turn: str, name: str) -> Callable[..., Any]:
    @contextmanager
    def site(of: state.TrainState, value: float) -> Iterator[None]:
        terms_of = getattr(of.objective, turn)

        def bad(*arguments: Any, **named: Any) -> Any:
            terms = terms_of(*arguments, **named)
            losses = {**terms.losses, name: terms.losses[name] * value}
            return terms._replace(losses=losses)

        setattr(of.objective, turn, bad)
        yield
        setattr(of.objective, turn, terms_of)

    return site


@contextmanager
def in_gradient(of: state.TrainState, value: float) -> Iterator[None]:
    def bad(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[1] = value
        return gradient

    parameter = next(of.discriminator.parameters()).requires_grad_()
    hook = parameter.register_hook(bad)
    yield
    hook.remove()


@contextmanager
def in_buffer(of: state.TrainState, value: float) -> Iterator[None]:
    """A buffer that a forward pass moves, and that no loss of this step depends on."""

    def bad(*_: Any) -> None:
        of.generator.style_mean[0, 0] = value

    hook = of.discriminator.blocks[0].register_forward_hook(bad)
    yield
    hook.remove()


SITES = {
    "data": in_data,
    "forward": in_forward,
    "loss": in_terms("discriminator_terms", "d/adversarial"),
    "penalty": in_terms("discriminator_terms", "d/r1_penalty"),
    "gradient": in_gradient,
    "buffer": in_buffer,
    "generator's loss": in_terms("generator_terms", "g/adversarial"),
}


# Parts broken on purpose: negative controls


def break_finite_check() -> None:
    """Look for NaN alone."""

    def nan_only(values: Any, wish: torch.Tensor) -> tuple[bool, bool]:
        return not bool(torch.stack(list(values)).isnan().any()), bool(wish > 0)

    state.is_sound = nan_only


def break_agreement() -> None:
    """Let every rank decide from its own values."""
    mean = World.mean_

    def local(self: World, tensors: Any) -> None:
        mean(self, [tensor for tensor in tensors if tensor.ndim])

    World.mean_ = local


def break_attempts() -> None:
    """Roll back, but with the same draws."""
    roll_back = loop.roll_back

    def same(of: state.TrainState, *rest: Any) -> Any:
        event = roll_back(of, *rest)
        of.attempt -= 1
        return event

    loop.roll_back = same


def break_saving() -> None:
    """Save in place: the old one goes, then the new one is written under its final name."""

    @contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        for old in path.parent.glob("step-*"):
            shutil.rmtree(old)
        path.mkdir(parents=True)
        yield path
        listed = sorted(file for file in path.iterdir())
        files.write_json(path / files.MANIFEST, {f.name: files.digest(f) for f in listed})

    checkpoint.atomic_folder = in_place


def break_digests() -> None:
    """Trust what can be parsed."""

    def parsed(folder: Path) -> str | None:
        try:
            for file in folder.glob("*.safetensors"):
                files.load_tensors(file)
        except ValueError as error:
            return str(error)
        return None

    checkpoint.damage = files.damage = parsed


def break_resume() -> None:
    """Forget the moving average on resuming."""
    restore = checkpoint.restore_checkpoint

    def forgetful(path: Path, of: state.TrainState, names: list[str]) -> Any:
        changed = restore(path, of, names)
        of.average.load_state_dict(of.generator.state_dict())
        return changed

    checkpoint.restore_checkpoint = forgetful


def break_stopping() -> None:
    """Let a rank that was told to stop do so by itself."""
    train_step = loop.train_step

    def alone(of: state.TrainState, shares: Any) -> Any:
        report = train_step(replace_wish(of), shares)
        of.is_stopping = bool(wishes and wishes[0]())
        return report

    wishes: list[Callable[[], bool]] = []

    def replace_wish(of: state.TrainState) -> state.TrainState:
        if not wishes:
            wishes.append(of.wants_stop)
            of.wants_stop = bool
        return of

    loop.train_step = alone


def break_watchdog() -> None:
    """Watch nothing."""
    read = loop.Watchdog

    def asleep(run: Path, rank: int, size: int, pulse: Any, _: float) -> Any:
        return read(run, rank, size, pulse, 0.0)

    loop.Watchdog = asleep


def tell_rows() -> None:
    """Say which images each rank is given, by a hash of each."""
    train_step = loop.train_step

    def saying(of: state.TrainState, shares: Any) -> Any:
        rows = [
            hashlib.sha256(row.numpy().tobytes()).hexdigest()[:8]
            for share in shares
            for batch in share
            for row in batch.stored
        ]
        print("ROWS " + json.dumps([of.step, rows]), flush=True)
        return train_step(of, shares)

    loop.train_step = saying
