"""What the discriminator is shown: augmentation and noise, with the dice thrown once.

Source: GAT (arXiv 2509.24935), spec sections 6 and 7. A view can be repeated, on the moved samples
of a penalty and on a teacher's image.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.config.schema import AugmentConfig
from scalegan.interfaces import Levels, LevelsOrOne
from scalegan.losses import augment, mng


@dataclass(frozen=True)
class View:
    """A random view whose dice are thrown; calling it twice gives the same view."""

    config: AugmentConfig
    dice: augment.Dice
    means: tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N 1 1 1"]]
    movement: augment.Movement | None
    """None where nothing is moved."""
    noise: Levels
    shares: Float[Tensor, " L"]

    def __call__(self, samples: LevelsOrOne) -> Levels:
        """Show samples; one level that stands for all becomes L of them."""
        if self.config.color > 0:
            samples = augment.color(
                samples, self.dice, self.config.color, self.means, self.config.in_turn
            )
        if self.movement is not None:
            samples = augment.move(samples, self.movement)
        return mng.perturb(samples, self.noise, self.shares)

    def on_images(
        self, images: Float[Tensor, "N 3 Q Q"], official: bool = False
    ) -> Float[Tensor, "N 3 Q Q"]:
        """Shift and mirror images of the same samples by the same fractions of their side.

        Args:
            official: scale the shift the wrong way round, as the authors' code does (A1).
        """
        config, side = self.config, images.shape[-1]
        shift = config.translation > 0
        movement = augment.movement(
            self.dice, side, shift, 0.0, config.flip, inverse_ratio=official
        )
        return augment.move(images[:, None], movement)[:, 0]


def draw_view(samples: LevelsOrOne, shares: Float[Tensor, " L"], config: AugmentConfig) -> View:
    """Throw the dice for one view of these samples.

    Color changes pull towards the means of the last level as it is here, before any change, on
    all levels and in every repetition; gradients flow through them (quirk A3).
    """
    count, _, channels, side, _ = samples.shape
    dice = augment.draw(count, side, config.translation, config.cutout, samples.device)
    draws = torch.randn(count, len(shares), channels, side, side, device=samples.device)
    return view_of(samples, dice, draws, shares, config)


def view_of(
    samples: LevelsOrOne,
    dice: augment.Dice,
    draws: Levels,
    shares: Float[Tensor, " L"],
    config: AugmentConfig,
) -> View:
    """The view that given dice and standard normal draws (coarse to fine) make."""
    movement = None
    if config.translation > 0 or config.cutout > 0 or config.flip > 0:
        movement = augment.movement(
            dice, samples.shape[-1], config.translation > 0, config.cutout, config.flip
        )
    means = augment.color_means(samples[:, -1].float())
    return View(config, dice, means, movement, mng.correlated_noise(draws, shares), shares)
