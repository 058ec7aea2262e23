"""Accuracy of a classifier's logits: conditional accuracy of samples, accuracy on real images."""

from jaxtyping import Float, Int64
from torch import Tensor

from scalegan.errors import DataError


def top_k_accuracy(logits: Float[Tensor, "N K"], labels: Int64[Tensor, " N"], k: int = 1) -> float:
    """Share of rows whose label is among the k largest logits; of equal ones the first counts.

    Raises:
        DataError: if there are no rows, a label is outside 0 .. K - 1 or a logit is NaN.
    """
    if not len(logits) or logits.isnan().any():
        raise DataError("no logits, or a logit is not a number")
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise DataError(f"a label is outside 0..{logits.shape[1] - 1}")
    own = logits.gather(1, labels[:, None])
    # A constant row must not count as right for every label.
    is_earlier = labels.new_ones(logits.shape).cumsum(dim=1) - 1 < labels[:, None]
    ahead = ((logits > own) | ((logits == own) & is_earlier)).sum(dim=1)
    return (ahead < k).double().mean().item()
