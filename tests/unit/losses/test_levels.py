"""How levels agree: CAT's term and its diagnostics, against numbers worked out by hand."""

import pytest
import torch

from scalegan.losses.levels import diagnostics, disagreement


def levels(*values: float) -> torch.Tensor:
    """One sample whose levels are flat images of these values."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, -1, 2, 3, 3).clone()


def test_finer_levels_are_pulled_harder_and_the_last_one_is_pulled_back() -> None:
    of = levels(3.0, 2.0, 1.0, 0.0).requires_grad_()
    found = disagreement(of)
    assert found.item() == pytest.approx((9 / 3 + 4 / 2 + 1 / 1) / 3)
    (gradient,) = torch.autograd.grad(found.sum(), of)
    towards = gradient.sum(dim=(0, 2, 3, 4))
    assert towards.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, -2])


def test_diagnostics_of_levels_that_overshoot_and_come_back() -> None:
    found = {name: value.item() for name, value in diagnostics(levels(1.0, 4.0, 3.0)).items()}
    assert found == pytest.approx(
        {
            "g/level_2_distance": 2.0,
            "g/level_3_distance": 1.0,
            "g/level_2_rewritten": 3.0,
            "g/level_3_rewritten": 0.25,
            "g/level_2_cosine": 1.0,
            "g/level_3_cosine": 1.0,
        }
    )
    away = diagnostics(levels(1.0, -1.0, 2.0))
    assert away["g/level_2_cosine"].item() == pytest.approx(-1.0)


def test_one_level_has_nothing_to_tell() -> None:
    assert diagnostics(levels(1.0)) == {}
