import math

import pytest
import torch

from scalegan.losses.adversarial import (
    logistic_discriminator,
    logistic_generator,
    relativistic_discriminator,
    relativistic_generator,
)


def test_equal_logits_cost_the_logarithm_of_two() -> None:
    logits = torch.tensor([[3.0], [-1.0]])
    expected = torch.full((2,), math.log(2))
    torch.testing.assert_close(relativistic_discriminator(logits, logits), expected)
    torch.testing.assert_close(relativistic_generator(logits, logits), expected)


def test_relativistic_by_hand() -> None:
    real, fake = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert relativistic_discriminator(real, fake).item() == pytest.approx(right, abs=1e-6)
    assert relativistic_generator(real, fake).item() == pytest.approx(wrong, abs=1e-6)


def test_several_logits_are_paired_by_position_and_averaged() -> None:
    real, fake = torch.tensor([[1.0, 5.0]]), torch.tensor([[5.0, 1.0]])
    expected = (math.log(1 + math.exp(4)) + math.log(1 + math.exp(-4))) / 2
    assert relativistic_discriminator(real, fake).item() == pytest.approx(expected, abs=1e-5)


def test_the_discriminator_lifts_real_logits_and_the_generator_fake_ones() -> None:
    real = torch.zeros(1, 1, requires_grad=True)
    fake = torch.zeros(1, 1, requires_grad=True)
    for loss, sign in ((relativistic_discriminator, 1), (relativistic_generator, -1)):
        of_real, of_fake = torch.autograd.grad(loss(real, fake).sum(), (real, fake))
        assert of_real.item() == -0.5 * sign  # descent moves against the gradient
        assert of_fake.item() == 0.5 * sign


def test_large_differences_stay_finite() -> None:
    real, fake = torch.tensor([[1e4]]), torch.tensor([[-1e4]])
    assert relativistic_discriminator(real, fake).item() == 0
    assert relativistic_generator(real, fake).item() == 2e4


def test_logistic_by_hand() -> None:
    real, fake = torch.tensor([[2.0, 2.0]]), torch.tensor([[-1.0, 3.0]])
    cost = [math.log(1 + math.exp(x)) for x in (-2, -1, 3, 1, -3)]
    expected = cost[0] + (cost[1] + cost[2]) / 2
    assert logistic_discriminator(real, fake).item() == pytest.approx(expected, abs=1e-5)
    expected = (cost[3] + cost[4]) / 2
    assert logistic_generator(real, fake).item() == pytest.approx(expected, abs=1e-5)


def test_logistic_does_not_saturate_and_needs_no_partner() -> None:
    fake = torch.tensor([[-50.0]], requires_grad=True)
    of_fake, of_real = torch.autograd.grad(
        logistic_generator(real := torch.zeros(1, 1, requires_grad=True), fake).sum(),
        (fake, real), allow_unused=True,
    )  # fmt: skip
    assert of_fake.item() == -1 and of_real is None
