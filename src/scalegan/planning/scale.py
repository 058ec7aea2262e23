"""Estimates for many GPUs: memory, communication and time per step, with the arithmetic.

n ranks, b bytes of a network's parameters in float32. Each rank sends what it receives.
"""

from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from scalegan.config.durations import count_steps
from scalegan.config.schema import Config
from scalegan.planning.cost import Task
from scalegan.planning.plan import DEVICES, UTILISATION, Device, RunPlan, make_plan

GPUS = (1, 8, 64, 512)
NODE = 8
"""GPUs that NVLink joins in a DGX or HGX H100 or H200."""
NVLINK = 450e9
"""Bytes per second and direction: 900 GB/s per GPU in all (data sheets, nvidia.com/h100, /h200)."""
NETWORK = 50e9
"""Bytes per second and direction: one 400 Gb/s adapter per GPU (data sheet, DGX H100 and H200)."""
REACHED = 0.7
"""Share of a link's rate that an estimate assumes; a guess until it is measured, and so marked."""
Parallel = Literal["replicate", "shard"]


# Where weights are sharded they are gathered for every forward and every backward pass. Generator:
# one of each. Discriminator: in its own turn `passes` of each, in the generator's turn the fake
# forward and backward, the real one forward. Gradients go around once per network.
def gathers(passes: int, keeps_fake: bool) -> tuple[int, int]:
    """All-gathers of the whole generator, and of the discriminator, per micro-batch.

    Args:
        passes: calls of the discriminator in its own turn; alignment adds one.
        keeps_fake: False where the generator runs in both turns.
    """
    return 2 if keeps_fake else 3, 2 * passes + 3


class Row(NamedTuple):
    """The estimate for a number of GPUs; bytes and seconds, per rank and step."""

    gpus: int
    plan: RunPlan
    sent: float
    compute: float
    communication: float

    @property
    def step(self) -> float:
        # Replicated gradients go after the backward pass; sharded weights travel beside the work.
        if self.plan.config.train.parallel == "shard":
            return max(self.compute, self.communication)
        return self.compute + self.communication


def estimate(config: Config, task: Task, device: Device, gpus: int, parallel: Parallel) -> Row:
    """Estimate memory, communication and time per step for a number of GPUs."""
    train = replace(config.train, parallel=parallel)
    plan = make_plan(replace(config, train=train), task, device, gpus)
    share = (gpus - 1) / gpus
    sizes = 4 * plan.counts.generator, 4 * plan.counts.discriminator
    if parallel == "replicate":  # a ring passes every byte twice, once per step and network
        sent = 2 * share * sum(sizes)
    else:
        passes = 2 if config.objective.alignment.is_used else 1
        parts = max(1, plan.micro_batches)
        keeps_fake = config.train.share_noise and parts == 1
        times = zip(gathers(passes, keeps_fake), sizes, strict=True)
        sent = parts * share * sum((gathered + 1) * size for gathered, size in times)
    link = NVLINK if gpus <= NODE else NETWORK
    compute = config.train.batch_size / plan.rate
    return Row(gpus, plan, sent, compute, sent / (REACHED * link))


def scale_table(config: Config, task: Task, device: str) -> list[str]:
    """Estimates for 1, 8, 64 and 512 GPUs as lines of a table."""
    kind = DEVICES.get(device, DEVICES["h200"])
    batch_size = config.train.batch_size
    rows = [
        estimate(config, task, kind, gpus, parallel)
        for gpus in GPUS
        if batch_size % gpus == 0
        for parallel in get_args(Parallel)[: 2 if gpus > 1 else 1]
    ]
    counts = rows[0].plan.counts
    peak = kind.bfloat16 if config.train.precision == "bfloat16" else kind.float32
    steps = count_steps(config.train.duration, "train.duration", batch_size, task.num_rows)
    lines = [
        f"{config.name} on {kind.label}, {batch_size} images per step over all GPUs. An estimate: "
        "nothing here is measured",
        f"  compute       images per GPU x {counts.step / 1e12:.2f} TFLOP / ({UTILISATION:.0%} x "
        f"{peak / 1e12:,.0f} TFLOP/s); without graphs kept between turns one forward of the "
        "generator more",
        f"  sent          replicate: 2 (n - 1) / n x 4 bytes x "
        f"{(counts.generator + counts.discriminator) / 1e6:,.0f} M numbers, after the work; shard: "
        "weights gathered in each pass, gradients reduced once, beside the work",
        f"  links         {REACHED:.0%} of {NVLINK / 1e9:.0f} GB/s among {NODE} GPUs (NVLink), of "
        f"{NETWORK / 1e9:.0f} GB/s beyond (400 Gb/s per GPU)",
        "",
        "  GPUs  parallel   batch per GPU  memory    sent      compute   links     step      "
        f"images/s  {config.train.duration}",
    ]
    return [*lines, *(_line(row, batch_size, steps) for row in rows)]


def _line(row: Row, batch_size: int, steps: int) -> str:
    plan = row.plan
    cells = [f"{row.gpus:4d}", f"{plan.config.train.parallel:9s}"]
    if not plan.micro_batches:
        return "  " + "  ".join([*cells, "not even one image fits"])
    cells += [
        f"{f'{plan.micro_batches} x {plan.images}':13s}",
        f"{plan.memory / 1e9:5.1f} GB",
        f"{row.sent / 1e9:5.1f} GB",
        f"{row.compute:6.2f} s",
        f"{row.communication:6.2f} s",
        f"{row.step:6.2f} s",
        f"{batch_size / row.step:8,.0f}",
        f"{steps * row.step / 86400:6.1f} d",
    ]
    return "  " + "  ".join(cells)
