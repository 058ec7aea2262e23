"""One training step: both networks, once each. All of its logic is on this screen."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scalegan.interfaces import Batch, Levels, LevelsOrOne, Share, Terms
from scalegan.train.state import Report, TrainState


def train_step(state: TrainState, shares: Sequence[Share]) -> Report:
    """Update the discriminator once per share, then the generator on the last of them.

    Args:
        state: networks, optimizers, average; changed in place.
        shares: already on the device; more than one only where a method asks for it (BigGAN).

    Returns:
        Every loss term and gradient norm by name, as scalars still on the device. To read one is
        to wait for the device, so that is left to the caller.
    """
    turns = [("discriminator", discriminator_terms, share) for share in shares]
    turns += [("generator", generator_terms, shares[-1])]
    report: Report = {}
    for turn, (name, terms_of, share) in enumerate(turns):
        report |= update(state, name, terms_of, share, turn)
        if not state.is_finite:
            break  # what follows would build on a bad value
    state.kept.clear()
    state.reals.clear()
    state.step += 1
    state.images_seen += state.config.train.batch_size * len(shares)
    return report


def update(
    state: TrainState,
    name: str,
    terms_of: Callable[[TrainState, Batch], Terms],
    share: Share,
    turn: int,
) -> Report:
    """Move one network by one optimizer step, or leave everything as it was."""
    state.begin(state.networks[name], share, turn)
    report: Report = {}
    for batch in share:
        with state.autocast():
            terms = terms_of(state, batch)
        means = state.backward(terms, 1 / len(share))
        report = {term: report.get(term, 0) + mean for term, mean in means.items()}
    return state.finish(name, report)


def discriminator_terms(state: TrainState, batch: Batch) -> Terms:
    with torch.set_grad_enabled(state.keeps_fake):
        w, fake = generate(state, batch)
    if state.keeps_fake:
        state.kept[id(batch)] = w, fake
    return state.objective.discriminator_terms(
        state.discriminator, real(state, batch), fake.detach(), batch, state.step
    )


def generator_terms(state: TrainState, batch: Batch) -> Terms:
    kept = state.kept.pop(id(batch), None)
    w, fake = generate(state, batch) if kept is None else kept
    state.track(w, batch.labels)
    return state.objective.generator_terms(
        state.generator, state.discriminator, real(state, batch), fake, batch, state.step
    )


def real(state: TrainState, batch: Batch) -> LevelsOrOne:
    """Real samples as one level that stands for all: (N, 1, C, H, W), the same in both turns.

    An autoencoder may draw them, from the moments of a latent.
    """
    if id(batch) not in state.reals:
        state.reals[id(batch)] = state.autoencoder.sample(batch.stored)[:, None]
    return state.reals[id(batch)]


def generate(state: TrainState, batch: Batch) -> tuple[Tensor, Levels]:
    """Styles (N, *S) and levels (N, L, C, H, W) for the labels of a batch."""
    w = state.generator.map(state.draw_noise(batch.labels), batch.labels)
    return w, state.generator.synthesize(state.mix(w, batch.labels))
