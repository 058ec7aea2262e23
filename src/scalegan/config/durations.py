"""Durations as settings write them: "150k steps", "50M images", "60 epochs" or "20 minutes"."""

from collections.abc import Sequence

from scalegan.errors import ConfigError

UNITS = ("steps", "images", "epochs")
SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
MULTIPLES = {"k": 10**3, "M": 10**6}


def parse_duration(text: str, name: str, units: Sequence[str] = UNITS) -> tuple[float, str]:
    """Split a duration into its number and its unit, in the plural.

    Args:
        name: of the setting, for messages.
        units: those that are allowed.

    Raises:
        ConfigError: if it is not a positive number and one of the units.
    """
    number, _, unit = text.strip().partition(" ")
    digits, multiple = number.rstrip("kM"), number[len(number.rstrip("kM")) :]
    try:
        amount = float(digits) * MULTIPLES[multiple] if multiple else float(digits)
    except (ValueError, KeyError):
        amount = 0
    unit = unit.strip().rstrip("s") + "s"
    if unit not in units or not 0 < amount < float("inf"):
        raise ConfigError(
            f'`{name}` is "{text}"; expected a positive number and a unit',
            'for example "150k steps", "50M images" or "60 epochs"',
        )
    return amount, unit


def count_steps(text: str, name: str, images_per_step: int, num_rows: int) -> int:
    """Express a duration in steps, at least one, rounded up.

    Args:
        name: of the setting, for messages.
        num_rows: images of an epoch.
    """
    amount, unit = parse_duration(text, name)
    images_per_unit = {"steps": images_per_step, "images": 1, "epochs": num_rows}[unit]
    return max(1, int(-(-amount * images_per_unit // images_per_step)))


def count_seconds(text: str) -> float:
    """Express a duration in seconds of training, or 0 if it is counted in something else."""
    amount, unit = parse_duration(text, "train.duration", (*UNITS, *SECONDS))
    return amount * SECONDS.get(unit, 0)
