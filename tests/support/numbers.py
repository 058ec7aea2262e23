"""Numbers of metrics without an evaluation behind them."""

from scalegan.evaluation.measure import Kind, Number


def number(name: str, kind: Kind) -> Number:
    """A metric's number, all of whose other fields are made up."""
    return Number(
        metric=name,
        name=name,
        title=name.upper(),
        kind=kind,
        value=1.0,
        spread={},
        floor=None,
        num_real=8,
        num_fake=8,
        protocol={},
        fingerprint="0123456789ab",
    )
