import copy

import pytest
import torch
from torch import nn

from scalegan.train.ema import update_average


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("kept", torch.tensor([1.0]))
        self.register_buffer("table", torch.tensor([1.0]), persistent=False)


def test_parameters_move_by_what_decay_leaves_and_buffers_are_copied() -> None:
    network = Network()
    average = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        network.weight += 10
        network.kept += 5
        network.table += 7
    update_average(average, network, 0.9)
    torch.testing.assert_close(average.weight, torch.tensor([2.0, 3.0]))
    update_average(average, network, 0.9)
    torch.testing.assert_close(average.weight, torch.tensor([2.9, 3.9]))
    assert average.kept.item() == 6 and average.table.item() == 8
    assert network.weight.tolist() == [11, 12]


def test_no_decay_is_a_copy() -> None:
    network, average = Network(), Network()
    with torch.no_grad():
        network.weight += 10
    update_average(average, network, 0.0)
    assert torch.equal(average.weight, network.weight)
    assert average.weight is not network.weight


def test_buffers_are_averaged_where_asked() -> None:
    network = Network()
    network.register_buffer("count", torch.tensor(1))
    average = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        network.kept += 10
        network.count += 5
    update_average(average, network, 0.9, with_buffers=True)
    assert average.kept.item() == pytest.approx(2)
    assert average.count.item() == 6  # whole numbers cannot be averaged
    update_average(average, network, 0.0, with_buffers=True)  # pegged, before an average starts
    assert average.kept.item() == 11
