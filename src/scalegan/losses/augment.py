"""Differentiable augmentation: the dice apart from what they do.

Source: DiffAugment (arXiv 2006.10738) as GAT uses it (arXiv 2509.24935): color, translation,
cut-out and flip, in this order. The L axis holds images of one sample that are moved alike.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Dice:
    """The draws of one augmentation of N samples, made for images of side `side`."""

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


def draw(count: int, side: int, translation: float, cutout: float, device: torch.device) -> Dice:
    """Throw the dice for `count` samples.

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
    return Dice(
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


def color(
    x: Float[Tensor, "N L C H W"],
    dice: Dice,
    probability: float,
    means: tuple[Float[Tensor, "N 1 H W"], Float[Tensor, "N 1 1 1"]],
    in_turn: bool = False,
) -> Float[Tensor, "N L C H W"]:
    """Change brightness, saturation and contrast, with the same numbers for all levels.

    The means belong to one untouched image and serve all levels; gradients flow through them
    (the official behavior, kept: GAT spec, quirk A3).

    Args:
        in_turn: let each change pull towards the means of what the one before has left, as
            DiffAugment does. Brightness moves both means by what it adds and saturation leaves the
            mean as it is, so this is to add the brightness last.
    """
    gray, mean = (m[:, None] for m in means)
    brightness, saturation, contrast = (
        u.view(-1, 1, 1, 1, 1) for u in (dice.brightness, dice.saturation, dice.contrast)
    )
    changed = x if in_turn else x + (brightness - 0.5)
    changed = (changed - gray) * (2 * saturation) + gray
    changed = (changed - mean) * (contrast + 0.5) + mean
    changed = changed + (brightness - 0.5) if in_turn else changed
    return torch.where(dice.color_gate.view(-1, 1, 1, 1, 1) < probability, changed, x)


@dataclass(frozen=True)
class Movement:
    """Where every pixel comes from, and which pixels stay black."""

    source: Int64[Tensor, "N A"]  # index into the H * W pixels, A = H * W
    visible: Float[Tensor, "N A"]


def movement(
    dice: Dice, side: int, shift: bool, cutout: float, flip: float, inverse_ratio: bool = False
) -> Movement:
    """Translation, cut-out and flip as one lookup, for images of side `side`.

    Shifts and cut-outs are fractions of the side: dice thrown for a latent move its image by
    the same fraction.

    Args:
        shift: whether to translate.
        cutout: side of the square as a fraction of the side; 0 = none.
        flip: probability of a mirror image.
        inverse_ratio: rescale the wrong way round, as the official code does (quirk A1); at the
            side that the dice were thrown for it makes no difference.
    """
    ratio = Fraction(dice.side, side) if inverse_ratio else Fraction(side, dice.side)
    rounding = Fraction(0) if inverse_ratio else Fraction(1, 2)

    def rescale(steps: Int64[Tensor, " N"]) -> Int64[Tensor, "N 1"]:
        scaled = steps[:, None] * (2 * ratio.numerator) + int(2 * rounding * ratio.denominator)
        return scaled.div(2 * ratio.denominator, rounding_mode="floor")

    steps = torch.arange(side, device=dice.flip.device)
    rows = steps.expand(len(dice.flip), -1)  # (N, H)
    columns = torch.where(dice.flip[:, None] < flip, steps.flip(0), steps)  # (N, W)
    hidden = torch.zeros((), dtype=torch.bool, device=steps.device)
    if cutout > 0:
        size = int(pixels(cutout, dice.side) * ratio)
        in_rows = _between(rows, rescale(dice.cut_h) - size // 2, size)
        in_columns = _between(columns, rescale(dice.cut_w) - size // 2, size)
        hidden = in_rows[:, :, None] & in_columns[:, None, :]
    if shift:
        rows = rows + rescale(dice.shift_h)
        columns = columns + rescale(dice.shift_w)
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    visible = inside_rows[:, :, None] & inside_columns[:, None, :] & ~hidden
    source = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
    return Movement(source.flatten(1), visible.float().flatten(1))


def _between(
    places: Int64[Tensor, "N S"], first: Int64[Tensor, "N 1"], count: int
) -> Bool[Tensor, "N S"]:
    """Which places an interval covers, its ends clamped into the image."""
    last = places.shape[1] - 1
    ends = first.clamp(0, last), (first + count - 1).clamp(0, last)
    return (places >= ends[0]) & (places <= ends[1])


def move(x: Float[Tensor, "N L C H W"], by: Movement) -> Float[Tensor, "N L C H W"]:
    """Look every pixel up where it comes from; zero where there is nothing to see."""
    flat = x.flatten(3)
    moved = flat.gather(3, by.source[:, None, None].expand_as(flat))
    return (moved * by.visible[:, None, None]).view_as(x)
