"""What can go wrong through a user's doing, by kind.

Every message says what was found and what was expected, in one sentence; `hint` says what to do.
"""


class ScaleganError(ValueError):
    """Something a user can cause and mend.

    Args:
        message: one sentence without a full stop: what was found, what was expected.
        hint: what to do about it, one sentence; empty if the message says it already.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(ScaleganError):
    """A setting is unknown, of the wrong type, out of range or without effect."""


class CompleteError(ConfigError):
    """A run that is to go on is at its end already."""


class DataError(ScaleganError):
    """Images or labels are not what the run needs."""


class CheckpointError(ScaleganError):
    """A checkpoint or snapshot is missing, damaged or of another run."""


class TrainingError(ScaleganError):
    """Training cannot go on: values that are not finite again and again, or a rank that is gone."""
