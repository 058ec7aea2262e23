"""Differentiable augmentation: the random draws, and the pure functions that apply them.

Source: DiffAugment (arXiv 2006.10738) as GAT uses it (arXiv 2509.24935, v1): color, translation,
cut-out and flip, in this order. The L axis holds images of one sample that are moved alike.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random numbers of one augmentation of N samples, drawn for images of side `side`."""

    side: int
    brightness: Float[Tensor, " N"]  # this and the next three uniform in [0, 1)
    saturation: Float[Tensor, " N"]
    contrast: Float[Tensor, " N"]
    color_gate: Float[Tensor, " N"]
    shift_h: Int64[Tensor, " N"]  # pixels
    shift_w: Int64[Tensor, " N"]
    cut_h: Int64[Tensor, " N"]  # center of the square, pixels
    cut_w: Int64[Tensor, " N"]
    flip: Float[Tensor, " N"]  # uniform in [0, 1)

    def of_first(self, count: int) -> "Draws":
        """The numbers of the first samples alone."""
        drawn = {name: value[:count] for name, value in vars(self).items() if name != "side"}
        return Draws(self.side, **drawn)


def draw_augmentation(
    count: int, side: int, translation: float, cutout: float, device: torch.device
) -> Draws:
    """Draw the random numbers of an augmentation of `count` samples.

    Args:
        translation: largest shift, as a fraction of the side.
        cutout: side of the square, as a fraction of the side.
    """
    brightness, saturation, contrast, color_gate = torch.rand(4, count, device=device)
    most = pixels(translation, side)
    shift_h, shift_w = torch.randint(-most, most + 1, (2, count), device=device)
    # A square of even side has its center between pixels, so there is one place more for it.
    places = side + 1 - pixels(cutout, side) % 2
    cut_h, cut_w = torch.randint(0, places, (2, count), device=device)
    flip = torch.rand(count, device=device)
    return Draws(
        side, brightness, saturation, contrast, color_gate, shift_h, shift_w, cut_h, cut_w, flip
    )


def pixels(fraction: float, side: int) -> int:
    """A fraction of the side in whole pixels, halves rounded up."""
    return int(fraction * side + 0.5)


def color_means(
    x: Float[Tensor, "N C H W"],
) -> tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N 1 1 1"]]:
    """What saturation and contrast pull towards: the gray image, and its mean."""
    return x.mean(dim=1, keepdim=True), x.mean(dim=(1, 2, 3), keepdim=True)


# Brightness x + (u - 1/2), saturation m1 + 2u (x - m1), contrast m3 + (u + 1/2) (x - m3): m1 is the
# mean over channels, m3 that over channels and pixels (DiffAugment, the authors' code).
def color(
    x: Float[Tensor, "N L C H W"],
    draws: Draws,
    probability: float,
    means: tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N 1 1 1"]],
    in_turn: bool = False,
) -> Float[Tensor, "N L C H W"]:
    """Change brightness, saturation and contrast, with the same numbers for all levels.

    The means belong to one untouched image and serve all levels; gradients flow through them
    (docs/deviations.md, `color-means`).

    Args:
        in_turn: let each change pull towards the means of what the one before has left, as
            DiffAugment does. Brightness moves both means by what it adds and saturation leaves the
            mean as it is, so this is to add the brightness last.
    """
    gray, mean = (m[:, None] for m in means)
    brightness, saturation, contrast = (
        u.view(-1, 1, 1, 1, 1) for u in (draws.brightness, draws.saturation, draws.contrast)
    )
    changed = x if in_turn else x + (brightness - 0.5)
    changed = (changed - gray) * (2 * saturation) + gray
    changed = (changed - mean) * (contrast + 0.5) + mean
    changed = changed + (brightness - 0.5) if in_turn else changed
    return torch.where(draws.color_gate.view(-1, 1, 1, 1, 1) < probability, changed, x)


@dataclass(frozen=True)
class Warp:
    """A lookup of pixels: where each comes from, and which are zero."""

    source: Int64[Tensor, "N A"]  # index into the H * W pixels, A = H * W
    visible: Float[Tensor, "N A"]


def make_warp(
    draws: Draws, side: int, shift: bool, cutout: float, flip: float, inverse_ratio: bool = False
) -> Warp:
    """Translation, cut-out and flip as one lookup, for images of side `side`.

    Shifts and cut-outs are fractions of the side: what is drawn for a latent moves its image by
    the same fraction.

    Args:
        shift: whether to translate.
        cutout: side of the square as a fraction of the side; 0 = none.
        flip: probability of a mirror image.
        inverse_ratio: scale by the inverse ratio, as the authors' code does (docs/deviations.md,
            `teacher-shift`); at the side that the draws are for it makes no difference.
    """
    ratio = Fraction(draws.side, side) if inverse_ratio else Fraction(side, draws.side)
    rounding = Fraction(0) if inverse_ratio else Fraction(1, 2)

    def rescale(steps: Int64[Tensor, " N"]) -> Int64[Tensor, "N 1"]:
        scaled = steps[:, None] * (2 * ratio.numerator) + int(2 * rounding * ratio.denominator)
        return scaled.div(2 * ratio.denominator, rounding_mode="floor")

    steps = torch.arange(side, device=draws.flip.device)
    rows = steps.expand(len(draws.flip), -1)  # (N, H)
    columns = torch.where(draws.flip[:, None] < flip, steps.flip(0), steps)  # (N, W)
    hidden = torch.zeros((), dtype=torch.bool, device=steps.device)
    if cutout > 0:
        size = int(pixels(cutout, draws.side) * ratio)
        in_rows = _between(rows, rescale(draws.cut_h) - size // 2, size)
        in_columns = _between(columns, rescale(draws.cut_w) - size // 2, size)
        hidden = in_rows[:, :, None] & in_columns[:, None, :]
    if shift:
        rows = rows + rescale(draws.shift_h)
        columns = columns + rescale(draws.shift_w)
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    visible = inside_rows[:, :, None] & inside_columns[:, None, :] & ~hidden
    source = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
    return Warp(source.flatten(1), visible.float().flatten(1))


def _between(
    places: Int64[Tensor, "N S"], first: Int64[Tensor, "N 1"], count: int
) -> Bool[Tensor, "N S"]:
    """Which places an interval covers, its ends clamped into the image."""
    last = places.shape[1] - 1
    ends = first.clamp(0, last), (first + count - 1).clamp(0, last)
    return (places >= ends[0]) & (places <= ends[1])


def apply_warp(x: Float[Tensor, "N L C H W"], warp: Warp) -> Float[Tensor, "N L C H W"]:
    """Look every pixel up where it comes from; zero where there is nothing to see."""
    flat = x.flatten(3)
    moved = flat.gather(3, warp.source[:, None, None].expand_as(flat))
    return (moved * warp.visible[:, None, None]).view_as(x)
