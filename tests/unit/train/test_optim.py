import pytest
import torch
from torch import nn

from scalegan.settings import OptimConfig
from scalegan.train.optim import build_optimizer, learning_rate


@pytest.mark.parametrize(
    ("width", "factor"), [(768, 1), (384, 2), (1024, 0.75), (1152, 2 / 3), (96, 8)]
)
def test_wider_networks_take_smaller_steps(width: int, factor: float) -> None:
    assert learning_rate(2e-4, width) == pytest.approx(2e-4 * factor)


def test_every_setting_reaches_the_optimizer() -> None:
    config = OptimConfig(learning_rate=1e-3, betas=(0.1, 0.9), eps=1e-7, weight_decay=0.01)
    group = build_optimizer(nn.Linear(2, 2), 384, config).param_groups[0]
    assert group["lr"] == pytest.approx(2e-3)
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.1, 0.9), 1e-7, 0.01)


def test_the_first_step_is_the_learning_rate_against_the_gradient() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer, 768, OptimConfig(learning_rate=1e-3))
    layer(torch.tensor([[3.0, -0.1]])).sum().backward()
    optimizer.step()
    expected = torch.tensor([[-1e-3, 1e-3]])
    torch.testing.assert_close(layer.weight.detach() - before, expected, atol=1e-7, rtol=1e-4)
