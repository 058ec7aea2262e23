"""What every run of a comparison may spend: time of training, operations, steps or images."""

from typing import NamedTuple

from scalegan.config.durations import count_seconds
from scalegan.errors import ConfigError

OPERATIONS = {"GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15, "EFLOP": 1e18}
EXAMPLES = '"20 minutes", "2 PFLOP", "2000 steps" or "500k images"'


class Budget(NamedTuple):
    """A checked budget. Of `seconds` and `operations` at most one is not zero."""

    text: str
    seconds: float = 0.0
    operations: float = 0.0

    def duration(self, operations_per_step: int) -> str:
        """What `train.duration` is for a recipe.

        Raises:
            ConfigError: if it is not enough for a step.
        """
        if not self.operations:
            return self.text
        steps = int(self.operations // operations_per_step)
        if not steps:
            raise ConfigError(
                f"a budget of {self.text} is less than one step, which takes "
                f"{operations_per_step / 1e12:.3g} TFLOP",
                "raise --budget or lower --train.batch-size",
            )
        return f"{steps} steps"


def parse_budget(text: str) -> Budget:
    """A number and a unit.

    Raises:
        ConfigError: if it is neither a duration nor a number of operations.
    """
    number, _, unit = text.strip().partition(" ")
    name = unit.strip().removesuffix("s")
    try:
        if name in OPERATIONS:
            amount = float(number) * OPERATIONS[name]
            if 0 < amount < float("inf"):
                return Budget(text, operations=amount)
        return Budget(text, seconds=count_seconds(text))
    except (ConfigError, ValueError):
        pass
    raise ConfigError(f'`--budget` is "{text}"; expected a positive number and a unit', EXAMPLES)
