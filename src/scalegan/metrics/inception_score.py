"""The Inception Score (arXiv 1606.03498) from logits: exp(mean KL(p(y|x) || p(y))).

p(y) is the mean within a part of the rows, so that the order of rows counts: shuffle samples or
interleave their classes before. Logits are those without the bias (ADM, torch-fidelity).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.errors import DataError


class Score(NamedTuple):
    """Mean and population standard deviation over the parts."""

    mean: float
    std: float


def inception_score(logits: Float[Tensor, "N K"], splits: int = 10) -> Score:
    """The score over parts of nearly equal size: part i has rows i * N // splits and on.

    Raises:
        DataError: if there are fewer rows than parts, or a logit is not finite.
    """
    if not 1 <= splits <= len(logits):
        raise DataError(f"{len(logits)} rows cannot be cut into {splits} parts")
    return _score(logits, [i * len(logits) // splits for i in range(splits + 1)])


def inception_score_of_chunks(logits: Float[Tensor, "N K"], chunk: int = 5000) -> Score:
    """ADM's way: parts of a fixed size, of which the last may be smaller."""
    if not len(logits):
        raise DataError("no rows, no score")
    return _score(logits, [*range(0, len(logits), chunk), len(logits)])


def _score(logits: Tensor, edges: Sequence[int]) -> Score:
    scores = []
    for begin, end in pairwise(edges):
        part = logits[begin:end].double()
        if not part.isfinite().all():
            raise DataError("logits hold a value that is not finite")
        # Not log(softmax), which is -inf where a probability underflows.
        logs = part.log_softmax(dim=1)
        marginal = logs.logsumexp(dim=0) - torch.tensor(len(part)).double().log()
        scores.append((logs.exp() * (logs - marginal)).sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return Score(values.mean().item(), values.std(correction=0).item())
