import math

import pytest
import torch

from scalegan.layers.transformer import (
    EqualizedLinear,
    SwiGLU,
    float32_island,
    normalize_second_moment,
    position_table,
    rotary_table,
    to_map,
    to_tokens,
    unpatchify,
)


@pytest.mark.parametrize(("width", "hidden"), [(384, 1024), (768, 2048), (1024, 2730)])
def test_swiglu_has_two_thirds_of_the_hidden_units_rounded_down(width: int, hidden: int) -> None:
    with torch.device("meta"):
        layer = SwiGLU(width, 4.0)
    assert layer.out.in_features == hidden
    assert layer.into.out_features == 2 * hidden


def test_swiglu_by_hand() -> None:
    layer = SwiGLU(1, 1.5)  # one hidden unit
    with torch.no_grad():
        layer.into.weight.copy_(torch.tensor([[2.0], [3.0]]))
        layer.into.bias.copy_(torch.tensor([0.0, 1.0]))
        layer.out.weight.fill_(5)
        layer.out.bias.fill_(7)
    silu = 2 / (1 + math.exp(-2))
    expected = silu * (3 + 1) * 5 + 7
    torch.testing.assert_close(layer(torch.ones(1, 1, 1)).item(), expected)


def test_equalized_linear_acts_at_a_hundredth_of_what_it_stores() -> None:
    layer = EqualizedLinear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[300.0, -100.0]]))
        layer.bias.fill_(50)
    torch.testing.assert_close(layer(torch.tensor([[1.0, 2.0]])).item(), 3 - 2 + 0.5)


def test_equalized_linear_starts_as_xavier_once_it_acts() -> None:
    torch.manual_seed(0)
    layer = EqualizedLinear(300, 100)
    acting = layer.weight.detach() * 0.01
    bound = math.sqrt(6 / 400)
    assert acting.abs().max() <= bound
    assert acting.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


def test_normalize_second_moment_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0]])  # mean square 12.5
    torch.testing.assert_close(normalize_second_moment(x), x / math.sqrt(12.5))
    columns = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    torch.testing.assert_close(
        normalize_second_moment(columns, dim=0),
        torch.tensor([[3.0, 0.0], [4.0, 0.0]]) / math.sqrt(12.5),
    )


def test_normalize_second_moment_of_zeros_is_zero() -> None:
    assert not normalize_second_moment(torch.zeros(2, 3)).any()


def test_float32_island_switches_autocast_off() -> None:
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with float32_island(a.device):
            assert (a @ a).dtype == torch.float32
    with float32_island(torch.device("meta")):
        pass


def test_position_table_has_the_column_before_the_row() -> None:
    def token(row: int, column: int) -> list[float]:
        return [math.sin(column), math.cos(column), math.sin(row), math.cos(row)]

    expected = torch.tensor([token(0, 0), token(0, 1), token(1, 0), token(1, 1)])
    torch.testing.assert_close(position_table(4, 2), expected)


def test_position_table_frequencies_fall_to_a_ten_thousandth() -> None:
    table = position_table(16, 2)  # four frequencies: 1, 0.1, 0.01, 0.001
    torch.testing.assert_close(table[1, :4], torch.tensor([1, 0.1, 0.01, 0.001]).sin())


def test_rotary_table_turns_the_first_half_by_the_row() -> None:
    table = rotary_table(8, 3)  # frequencies 1 and 0.01; angles: row, row, column, column
    angles = torch.tensor([2.0, 0.02, 1.0, 0.01])  # token 7 lies in row 2, column 1
    torch.testing.assert_close(table[7, :, 0], angles.cos())
    torch.testing.assert_close(table[7, :, 1], angles.sin())
    assert table.shape == (9, 4, 2)


def test_unpatchify_by_hand() -> None:
    # Two tokens across would not be square; 2x2 tokens of 2x2 pixels with one channel.
    tokens = torch.arange(16.0).view(1, 4, 4)
    expected = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15.0]])
    assert torch.equal(unpatchify(tokens, 2)[0, 0], expected)


def test_unpatchify_has_channels_fastest() -> None:
    tokens = torch.arange(12.0).view(1, 1, 12)  # one 2x2 patch of three channels
    image = unpatchify(tokens, 2)[0]
    assert torch.equal(image[:, 0, 1], torch.tensor([3.0, 4.0, 5.0]))
    assert torch.equal(image[1], torch.tensor([[1.0, 4.0], [7.0, 10.0]]))


def test_tokens_lie_row_by_row_on_their_map() -> None:
    tokens = torch.arange(18.0).view(1, 9, 2)
    on_map = to_map(tokens)
    assert on_map[0, :, 1, 2].tolist() == tokens[0, 5].tolist()
    assert torch.equal(to_tokens(on_map), tokens)
