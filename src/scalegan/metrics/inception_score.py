"""The Inception Score of a classifier's logits (Salimans et al., arXiv 1606.03498)."""

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


# IS = exp(E_x KL(p(y|x) || p(y)))  (arXiv 1606.03498, section 4), p(y) the mean within a part.
def inception_score(logits: Float[Tensor, "N K"], splits: int = 10) -> Score:
    """The score over parts of nearly equal size: part i has rows i * N // splits and on.

    The order of rows counts: shuffle samples, or interleave their classes, before. Logits are
    those without the bias, as ADM and torch-fidelity take them.

    Raises:
        DataError: if there are fewer rows than parts, or a logit is not finite.
    """
    if not 1 <= splits <= len(logits):
        raise DataError(f"{len(logits)} rows cannot be cut into {splits} parts")
    scores = []
    for begin, end in pairwise(i * len(logits) // splits for i in range(splits + 1)):
        part = logits[begin:end].double()
        if not part.isfinite().all():
            raise DataError("logits hold a value that is not finite")
        # Not log(softmax), which is -inf where a probability underflows.
        logs = part.log_softmax(dim=1)
        marginal = logs.logsumexp(dim=0) - torch.tensor(len(part)).double().log()
        scores.append((logs.exp() * (logs - marginal)).sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return Score(values.mean().item(), values.std(correction=0).item())
