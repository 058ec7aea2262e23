import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from scalegan.config.models import GATConfig
from scalegan.config.objective import ObjectiveConfig, PathLengthConfig, PenaltyConfig
from scalegan.config.schema import Config, OptimConfig
from scalegan.train.optim import build_optimizer, learning_rate, update_average


def config(width: int = 768, **optim: Any) -> Config:
    return Config(model=GATConfig(width=width), optim=OptimConfig(**optim))


@pytest.mark.parametrize(
    ("width", "factor"), [(768, 1), (384, 2), (1024, 0.75), (1152, 2 / 3), (96, 8)]
)
def test_wider_networks_take_smaller_steps(width: int, factor: float) -> None:
    scaled, as_stated = config(width), config(width, base_width=0)
    assert learning_rate("generator", scaled) == pytest.approx(2e-4 * factor)
    assert learning_rate("generator", as_stated) == 2e-4


def test_the_discriminator_may_have_a_rate_of_its_own() -> None:
    own = config(discriminator_learning_rate=4e-4)
    assert [learning_rate(name, own) for name in ("generator", "discriminator")] == [2e-4, 4e-4]


def test_each_network_has_the_rate_of_its_own_width() -> None:
    apart = Config(model=GATConfig(width=384, discriminator_width=192))
    rates = [learning_rate(name, apart) for name in ("generator", "discriminator")]
    assert rates == pytest.approx([4e-4, 8e-4])


def test_rates_and_betas_are_adjusted_for_terms_that_come_every_few_steps() -> None:
    objective = ObjectiveConfig(
        penalty=PenaltyConfig(kind="exact", every=16, lazy=True),
        path_length=PathLengthConfig(every=4),
    )
    lazy = replace(config(learning_rate=2e-3, betas=(0.5, 0.99)), objective=objective)
    for name, share in (("discriminator", 16 / 17), ("generator", 4 / 5)):
        group = build_optimizer(name, nn.Linear(2, 2), lazy).param_groups[0]
        assert group["lr"] == pytest.approx(2e-3 * share)
        assert group["betas"] == pytest.approx((0.5**share, 0.99**share))


def test_every_setting_reaches_the_optimizer() -> None:
    given = config(384, learning_rate=1e-3, betas=(0.1, 0.9), eps=1e-7, weight_decay=0.01)
    group = build_optimizer("generator", nn.Linear(2, 2), given).param_groups[0]
    assert group["lr"] == pytest.approx(2e-3)
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.1, 0.9), 1e-7, 0.01)


def test_the_first_step_is_the_learning_rate_against_the_gradient() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer("generator", layer, config(learning_rate=1e-3))
    layer(torch.tensor([[3.0, -0.1]])).sum().backward()
    optimizer.step()
    expected = torch.tensor([[-1e-3, 1e-3]])
    torch.testing.assert_close(layer.weight.detach() - before, expected, atol=1e-7, rtol=1e-4)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("running", torch.tensor([1.0]))
        self.register_buffer("table", torch.tensor([1.0]), persistent=False)


def test_parameters_move_by_what_decay_leaves_and_buffers_are_copied() -> None:
    network = Network()
    average = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        network.weight += 10
        network.running += 5
        network.table += 7
    update_average(average, network, 0.9)
    torch.testing.assert_close(average.weight, torch.tensor([2.0, 3.0]))
    update_average(average, network, 0.9)
    torch.testing.assert_close(average.weight, torch.tensor([2.9, 3.9]))
    assert average.running.item() == 6 and average.table.item() == 8
    assert network.weight.tolist() == [11, 12]


def test_no_decay_is_a_copy() -> None:
    network, average = Network(), Network()
    with torch.no_grad():
        network.weight += 10
    update_average(average, network, 0.0)
    assert torch.equal(average.weight, network.weight)
    assert average.weight is not network.weight


def test_buffers_may_be_averaged_like_weights() -> None:
    network = Network()
    network.register_buffer("count", torch.tensor(3))
    average = copy.deepcopy(network).requires_grad_(False)
    network.running += 5
    network.count += 4
    update_average(average, network, 0.9, buffers="average")
    torch.testing.assert_close(average.running, torch.tensor([1.5]))
    assert average.count.item() == 7, "counters are copied"
