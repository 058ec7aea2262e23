"""A clean stop on signals, and an end to a run whose values are not finite again and again."""

import signal
from types import FrameType

from scalegan.errors import TrainingError
from scalegan.train.state import Report

MOST_BAD_STEPS = 3


class Signals:
    """Turns SIGINT, SIGTERM and SIGUSR1 into a wish to stop after the current step.

    A second SIGINT ends the process at once.
    """

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "Signals":
        self.before = {number: signal.signal(number, self._note) for number in self.caught}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number


class BadSteps:
    """Counts steps in a row whose values were not finite."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def note(self, is_finite: bool, step: int, report: Report) -> None:
        """Raise after too many in a row; nothing of them has reached a weight."""
        self.in_a_row = 0 if is_finite else self.in_a_row + 1
        if self.in_a_row >= MOST_BAD_STEPS:
            names = [name for name, value in report.items() if not value.isfinite()]
            raise TrainingError(
                f"{self.in_a_row} steps in a row up to step {step} had values that are not "
                f"finite: {', '.join(names)}",
                "the last checkpoint is sound: resume it with a smaller `optim.learning_rate`",
            )
