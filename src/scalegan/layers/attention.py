"""Attention: of tokens with rotary positions, of tokens in linear time, and of maps to pooled maps.

T tokens on a grid, S those and a class token before them, V positions of a pooled map.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.layers.spectral import Conv, Normalizer

# The machine epsilon of float32, pinned: PyTorch's default would follow the dtype under autocast.
QK_EPSILON = 1.1920929e-07


class SelfAttention(nn.Module):
    """Multi-head attention over all tokens; q and k are RMS-normalized per head, v is not."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.into = nn.Linear(width, 3 * width)  # rows: all of q, all of k, all of v
        self.query_norm = nn.RMSNorm(width // num_heads, eps=QK_EPSILON)
        self.key_norm = nn.RMSNorm(width // num_heads, eps=QK_EPSILON)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "N S D"], rotary: Float[Tensor, "T R 2"], first_only: bool = False
    ) -> Float[Tensor, "N Q D"]:
        """softmax(q k^T / sqrt(d)) v (arXiv 1706.03762, eq. 1), by head.

        Args:
            x: tokens; the last T of them lie on the grid, those before (a class token) do not.
            rotary: angles of the grid.
            first_only: return the first token alone, which must not lie on the grid. It still
                attends to all others; the work for their queries is left out.
        """
        width = x.shape[-1]
        if first_only:
            weight, bias = self.into.weight, self.into.bias
            q = self._heads(F.linear(x[:, :1], weight[:width], bias[:width]))
            k, v = map(self._heads, F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1))
            q = self.query_norm(q.float())  # under autocast q has fewer bits than the weight
        else:
            q, k, v = map(self._heads, self.into(x).chunk(3, dim=-1))  # (N, heads, S, D / heads)
            q = rotate(self.query_norm(q.float()), rotary)
        k = rotate(self.key_norm(k.float()), rotary)
        x = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.out(x.transpose(1, 2).flatten(2))

    def _heads(self, x: Float[Tensor, "N S D"]) -> Float[Tensor, "N heads S head"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AdditiveAttention(nn.Module):
    """Additive attention: one global query per head, of all tokens; linear in their number.

    Source: LadaGAN (arXiv 2401.09596), section on linear additive attention, after Fastformer
    (arXiv 2108.09084), which also pools keys.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.into = nn.Linear(width, 3 * width)  # rows: all of q, all of k, all of v
        self.score = nn.Linear(width, num_heads)  # reads all heads' channels for each head
        self.out = nn.Linear(width, width)

    # a = softmax_i(w^T q_i / sqrt(d)), g = sum_i a_i q_i, u_i = g * k_i * v_i
    def forward(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        q, k, v = self.into(x).chunk(3, dim=-1)
        query = self.pool(q, self.weigh(q)).flatten(1)[:, None]  # (N, 1, D)
        return self.out(query * k * v)

    def weigh(self, q: Float[Tensor, "N T D"]) -> Float[Tensor, "N T heads"]:
        """The weight of every token in its head's query; they add up to one over the tokens."""
        head_width = q.shape[-1] // self.num_heads
        return (self.score(q) * head_width**-0.5).softmax(dim=1)

    def pool(
        self, q: Float[Tensor, "N T D"], weights: Float[Tensor, "N T heads"]
    ) -> Float[Tensor, "N heads head"]:
        """One query per head."""
        q = q.unflatten(-1, (self.num_heads, -1))
        return torch.einsum("nth,nthd->nhd", weights.to(q.dtype), q)


class PooledAttention(nn.Module):
    """Positions of a map attend to the 2x2-pooled ones; starts as the identity.

    Source: SAGAN, arXiv 1805.08318 (v2), section 3, whose keys and values BigGAN pools.
    """

    def __init__(self, normal: Normalizer, width: int) -> None:
        super().__init__()
        self.query = Conv(normal, width, width // 8, 1, bias=False)
        self.key = Conv(normal, width, width // 8, 1, bias=False)
        self.value = Conv(normal, width, width // 2, 1, bias=False)
        self.out = Conv(normal, width // 2, width, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    # SAGAN, section 3: y = gamma o + x, with o_j = v(sum_i beta_ji h(x_i))
    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # (N, C / 2, V)
        attended = value @ self.weights(x).mT  # (N, C / 2, H * W)
        return self.gamma * self.out(attended.unflatten(2, x.shape[2:])) + x

    # SAGAN, section 3: beta_ji = softmax_i(f(x_i)^T g(x_j)), without 1/sqrt(width)
    def weights(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N T V"]:
        """Attention of every position to the pooled ones; it sums to one over these."""
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # (N, C / 8, V)
        return (self.query(x).flatten(2).mT @ key).softmax(dim=-1)


def rotate(
    x: Float[Tensor, "N heads S head"], rotary: Float[Tensor, "T R 2"]
) -> Float[Tensor, "N heads S head"]:
    """Turn adjacent channel pairs of the last T tokens; tokens before them stay as they are.

    One complex product does the work of four products and two sums over strided halves; tokens
    that stay are turned by nothing, which costs less than to part them from the others.
    """
    num_free = x.shape[2] - rotary.shape[0]
    if num_free:
        nothing = rotary.new_tensor([1.0, 0.0]).expand(num_free, rotary.shape[1], 2)
        rotary = torch.cat([nothing, rotary])  # (S, R, 2)
    if torch.compiler.is_compiling():  # it fuses products and sums, but not complex ones
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        cosine, sine = rotary.unbind(-1)
        turned = torch.stack([a * cosine - b * sine, b * cosine + a * sine], dim=-1)
        return turned.flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(rotary)).flatten(-2).to(x.dtype)
