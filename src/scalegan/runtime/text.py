"""How durations and small tables are written, in logs and on the console."""

from collections.abc import Sequence


def clock(seconds: float) -> str:
    """Minutes and seconds, as on a clock: "0:39"; hours stand before them: "2:05:00"."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def rough_duration(seconds: float) -> str:
    """The two largest units of an estimated time: "12 min", "3 h 5 min" or "2 d 7 h"."""
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{max(1, minutes)} min"


def aligned(rows: Sequence[Sequence[str]], side: str = "<") -> list[str]:
    """Rows of equally many cells as lines, two spaces between the columns.

    Args:
        side: of all columns but the first that cells stand at: "<" is the left one, ">" the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{side if i else '<'}{width}" for i, width in enumerate(widths)]
    return [
        "  ".join(f"{cell:{form}}" for cell, form in zip(row, forms, strict=True)).rstrip()
        for row in rows
    ]
