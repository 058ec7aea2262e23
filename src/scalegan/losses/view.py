"""What the discriminator is shown: augmentation, then noise, drawn once and applied repeatedly.

Source: GAT (arXiv 2509.24935, v1). A view can be repeated, on the moved samples of a penalty and on
a teacher's image.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.config.objective import AugmentConfig
from scalegan.interfaces import Levels, LevelsOrOne
from scalegan.losses import augment, mng


@dataclass(frozen=True)
class View:
    """A random augmentation and noise with all draws made; calling it twice gives the same view."""

    config: AugmentConfig
    draws: augment.Draws
    means: tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N 1 1 1"]]
    warp: augment.Warp | None
    """None where nothing is moved."""
    noise: Levels
    noise_levels: Float[Tensor, " L"]

    def __call__(self, samples: LevelsOrOne) -> Levels:
        """Show samples; one level that stands for all becomes L of them."""
        if self.config.color > 0:
            samples = augment.color(
                samples, self.draws, self.config.color, self.means, self.config.in_turn
            )
        if self.warp is not None:
            samples = augment.apply_warp(samples, self.warp)
        return mng.perturb(samples, self.noise, self.noise_levels)

    def of_first(self, count: int) -> "View":
        """The same view of the first samples alone."""
        warp, (gray, mean) = self.warp, self.means
        return replace(
            self,
            draws=self.draws.of_first(count),
            means=(gray[:count], mean[:count]),
            warp=warp and augment.Warp(warp.source[:count], warp.visible[:count]),
            noise=self.noise[:count],
        )

    def on_images(
        self, images: Float[Tensor, "N 3 Q Q"], official: bool = False
    ) -> Float[Tensor, "N 3 Q Q"]:
        """Shift and mirror images of the same samples by the same fractions of their side.

        Args:
            official: scale the shift by the inverse ratio, as the authors' code does
                (docs/deviations.md, `teacher-shift`).
        """
        config, side = self.config, images.shape[-1]
        shift = config.translation > 0
        warp = augment.make_warp(self.draws, side, shift, 0.0, config.flip, inverse_ratio=official)
        return augment.apply_warp(images[:, None], warp)[:, 0]


def draw_view(
    samples: LevelsOrOne,
    noise_levels: Float[Tensor, " L"],
    config: AugmentConfig,
    draws: augment.Draws | None = None,
) -> View:
    """Draw one view of these samples.

    Color changes pull towards the means of the last level as it is here, before any change, on
    all levels and in every repetition; gradients flow through them (docs/deviations.md,
    `color-means`).

    Args:
        draws: the augmentation, where it is another view's.
    """
    count, _, channels, side, _ = samples.shape
    draws = draws or augment.draw_augmentation(
        count, side, config.translation, config.cutout, samples.device
    )
    noise_draws = torch.randn(count, len(noise_levels), channels, side, side, device=samples.device)
    return view_of(samples, draws, noise_draws, noise_levels, config)


def view_of(
    samples: LevelsOrOne,
    draws: augment.Draws,
    noise_draws: Levels,
    noise_levels: Float[Tensor, " L"],
    config: AugmentConfig,
) -> View:
    """The view that given draws make; those of the noise are standard normal, coarse to fine."""
    warp = None
    if config.translation > 0 or config.cutout > 0 or config.flip > 0:
        warp = augment.make_warp(
            draws, samples.shape[-1], config.translation > 0, config.cutout, config.flip
        )
    means = augment.color_means(samples[:, -1].float())
    noise = mng.correlated_noise(noise_draws, noise_levels)
    return View(config, draws, means, warp, noise, noise_levels)
