"""The learning rates over a run: warm-up, decay, and a last phase that starts from the average."""

from scalegan.config.durations import count_steps
from scalegan.config.schema import Config
from scalegan.train.optim import stated_rate, update_average
from scalegan.train.state import TrainState


class Schedule:
    """What changes on the way: the learning rates, and the generator where its average replaces it.

    Args:
        num_rows: images of an epoch.
        last_step: of the run; None where its end is a time.
    """

    def __init__(self, config: Config, num_rows: int, last_step: int | None) -> None:
        def steps(name: str) -> int:
            """A setting's length in steps, 0 where it is empty."""
            length: str = getattr(config.optim, name)
            images = config.images_per_step
            return count_steps(length, f"optim.{name}", images, num_rows) if length else 0

        self.warmup, self.decay = steps("warmup"), steps("decay")
        self.reload_average, self.last_step = steps("reload_average"), last_step

    def factor(self, step: int) -> float:
        """What both rates are multiplied by at a step, counted from 0."""
        rise = (step + 1) / self.warmup if self.warmup else 1.0
        fall = 1.0
        if self.decay and self.last_step is not None:
            fall = (self.last_step - step) / self.decay
        return min(rise, fall, 1.0)

    def apply(self, state: TrainState) -> None:
        """Before a step: set its rates, and load the average where it is due."""
        factor = self.factor(state.step)
        for name, optimizer in state.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = factor * stated_rate(name, state.config)
        if self.reload_average and state.step and state.step % self.reload_average == 0:
            update_average(state.generator, state.average, decay=0.0)
