import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scalegan.layers.attention import AdditiveAttention, SelfAttention, rotate
from scalegan.layers.transformer import rotary_table


def random_attention(width: int = 16, num_heads: int = 2) -> SelfAttention:
    torch.manual_seed(0)
    attention = SelfAttention(width, num_heads)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


def explicit(attention: SelfAttention, x: Tensor, angles: Tensor) -> Tensor:
    """Attention of one sample, head by head; angles (S, R) are zero for tokens off the grid."""
    num_heads, width = attention.num_heads, x.shape[-1]
    size = width // num_heads
    rows = x @ attention.into.weight.T + attention.into.bias
    merged = torch.zeros_like(x)
    for head in range(num_heads):
        q, k, v = (rows[:, i * width + head * size :][:, :size] for i in range(3))

        def prepare(part: Tensor, weight: Tensor) -> Tensor:
            part = part / (part.square().mean(1, keepdim=True) + 1.1920929e-07).sqrt() * weight
            a, b, c, s = part[:, ::2], part[:, 1::2], angles.cos(), angles.sin()
            return torch.stack([a * c - b * s, b * c + a * s], dim=2).flatten(1)

        q, k = prepare(q, attention.query_norm.weight), prepare(k, attention.key_norm.weight)
        for i in range(len(x)):
            weights = (k @ q[i] / math.sqrt(size)).softmax(dim=0)
            merged[i, head * size : (head + 1) * size] = weights @ v
    return merged @ attention.out.weight.T + attention.out.bias


@pytest.mark.parametrize("num_free", [0, 1])
def test_attention_equals_its_formula(num_free: int) -> None:
    attention, rotary = random_attention(), rotary_table(8, 2)
    x = torch.randn(2, 4 + num_free, 16)
    angles = torch.atan2(rotary[..., 1], rotary[..., 0])
    angles = torch.cat([torch.zeros(num_free, 4), angles])
    expected = torch.stack([explicit(attention, sample, angles) for sample in x])
    torch.testing.assert_close(attention(x, rotary), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_first_only_is_the_first_token_of_the_full_result(count: int) -> None:
    attention, rotary = random_attention(), rotary_table(8, 3)
    x = torch.randn(count, 10, 16)
    first = attention(x, rotary, first_only=True)
    assert first.shape == (count, 1, 16)
    torch.testing.assert_close(first, attention(x, rotary)[:, :1])


def test_rotate_by_hand() -> None:
    quarter = torch.tensor([[[0.0, 1.0]]])  # cosine 0, sine 1: one token, one pair
    x = torch.tensor([[[[5.0, 6.0], [1.0, 2.0]]]])
    # (a, b) becomes (-b, a); the token before the grid stays.
    expected = torch.tensor([[[[5.0, 6.0], [-2.0, 1.0]]]])
    assert torch.equal(rotate(x, quarter), expected)


def test_rotate_keeps_lengths_and_type() -> None:
    x = torch.randn(2, 2, 10, 8)
    turned = rotate(x, rotary_table(8, 3))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert rotate(x.bfloat16(), rotary_table(8, 3)).dtype == torch.bfloat16


def test_scores_depend_on_relative_positions_alone() -> None:
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    grid = 4
    rotary = rotary_table(8, grid)
    q, k = (rotate(x.expand(1, 1, grid**2, 8), rotary)[0, 0] for x in (q, k))
    scores = q @ k.T
    for token in range(grid * (grid - 1) - 1):
        if token % grid < grid - 1:  # one down and one to the right
            moved = token + grid + 1
            torch.testing.assert_close(scores[token, 1 + grid - 1], scores[token, grid])
            torch.testing.assert_close(scores[0, grid + 1], scores[token, moved])


def random_additive(width: int = 12, num_heads: int = 3) -> AdditiveAttention:
    torch.manual_seed(0)
    return AdditiveAttention(width, num_heads).double()


def test_additive_attention_is_the_loop_over_samples_heads_and_tokens() -> None:
    attention = random_additive()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    rows = x @ attention.into.weight.T + attention.into.bias
    expected = torch.zeros_like(x)
    for sample in range(2):
        for head in range(3):
            channels = slice(4 * head, 4 * head + 4)
            q, k, v = rows[sample].split(12, dim=1)
            scores = q @ attention.score.weight[head] + attention.score.bias[head]  # all channels
            shares = (scores / math.sqrt(4)).exp()
            shares = shares / shares.sum()
            query = sum(shares[token] * q[token, channels] for token in range(5))
            for token in range(5):
                expected[sample, token, channels] = query * k[token, channels] * v[token, channels]
    expected = expected @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x), expected)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(0, 2**16))
def test_additive_attention_knows_no_order_and_its_shares_add_up_to_one(
    tokens: int, seed: int
) -> None:
    attention = random_additive()
    x = torch.randn(2, tokens, 12, dtype=torch.float64, generator=torch.manual_seed(seed))
    order = torch.randperm(tokens)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
    shares = attention.weigh(attention.into(x).chunk(3, dim=-1)[0])
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 3, dtype=torch.float64))
    assert (shares > 0).all()


def test_additive_attention_needs_operations_in_proportion_to_the_tokens() -> None:
    def operations(tokens: int) -> int:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            AdditiveAttention(12, 3)(torch.empty(1, tokens, 12))
        return counter.get_total_flops()

    assert operations(64) == 64 * 2 * (4 * 12**2 + 12 * 3 + 12)
    assert operations(4096) == 64 * operations(64)
