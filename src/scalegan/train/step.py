"""One training step: both networks, once each. All of its logic is on this screen."""

from collections.abc import Callable, Sequence

import torch

from scalegan.interfaces import Batch, Labels, LevelsOrOne, Share, Terms
from scalegan.train.state import Fakes, Report, TrainState, Turn


def train_step(state: TrainState, shares: Sequence[Share]) -> Report:
    """Update the discriminator once per share, then the generator on the last of them.

    Args:
        state: networks, optimizers, average; changed in place.
        shares: already on the device; more than one only where a method asks for it (BigGAN).

    Returns:
        Every loss term and gradient norm by name, as scalars still on the device. To read one is
        to wait for the device, so that is left to the caller.
    """
    report: Report = {}
    for number, share in enumerate(shares):
        turn = state.begin("discriminator", share, number)
        report |= update(state, turn, discriminator_terms)
        if not state.is_finite:
            break  # what follows would build on a bad value
    else:
        turn = state.begin("generator", shares[-1], len(shares), turn.reals, turn.fakes)
        report |= update(state, turn, generator_terms)
    state.step += 1
    state.images_seen += state.config.train.batch_size * len(shares)
    return report


def update(
    state: TrainState, turn: Turn, terms_of: Callable[[TrainState, Turn, Batch, int], Terms]
) -> Report:
    """Move one network by one optimizer step, or leave everything as it was."""
    report: Report = {}
    for i, batch in enumerate(turn.share):
        with state.autocast():
            terms = terms_of(state, turn, batch, i)
        means = state.backward(terms, 1 / len(turn.share))
        report = {term: report.get(term, 0) + mean for term, mean in means.items()}
    return state.finish(turn, report)


def discriminator_terms(state: TrainState, turn: Turn, batch: Batch, i: int) -> Terms:
    """Terms of micro-batch `i`, whose real samples (and fake ones) the generator's turn reuses."""
    with torch.set_grad_enabled(turn.reuses_fakes):
        fakes = generate(state, turn, batch.labels)
    if turn.reuses_fakes:
        turn.fakes.append(fakes)
    turn.reals.append(real_samples(state, batch))
    return state.objective.discriminator_terms(
        state.discriminator, turn.reals[i], fakes.levels.detach(), batch, state.step
    )


def generator_terms(state: TrainState, turn: Turn, batch: Batch, i: int) -> Terms:
    """Terms of micro-batch `i`."""
    fakes = turn.fakes[i] if turn.fakes else generate(state, turn, batch.labels)
    turn.styles.append((fakes.w.detach().float(), batch.labels))
    return state.objective.generator_terms(
        state.generator, state.discriminator, turn.reals[i], fakes.levels, batch, state.step
    )


def real_samples(state: TrainState, batch: Batch) -> LevelsOrOne:
    """Real samples as one level that stands for all: (N, 1, C, H, W).

    An autoencoder may draw them, from the moments of a latent.
    """
    return state.autoencoder.sample(batch.stored)[:, None]


def generate(state: TrainState, turn: Turn, labels: Labels) -> Fakes:
    """Styles (N, *S) and levels (N, L, C, H, W) for some labels."""
    w = state.generator.map(state.draw_noise(turn, labels), labels)
    return Fakes(w, state.generator.synthesize(state.mix_styles(turn, w, labels)))
