"""`scalegan judge train`: a source of pictures, or shards, becomes a judge."""

from pathlib import Path

import torch

from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.inputs import Drawing, open_stream
from scalegan.features.judge import fit_judge, save_judge
from scalegan.runtime.progress import Bar
from scalegan.runtime.world import World
from scalegan.settings import JudgeConfig


def train_judge(source: str, out: Path, config: JudgeConfig, device: str = "cpu") -> list[str]:
    """Train a judge and save it. An interrupted call leaves nothing; the same call begins anew.

    Args:
        source: pictures with classes, as `data.source`, or shards.
        out: the folder to write; it must not exist.
        config: checked.
        device: "cpu", "cuda" or "cuda:1".

    Returns:
        Lines for people: how good it is, and what to type next.

    Raises:
        ConfigError, DataError: see their sentences.
    """
    if out.exists():
        raise ConfigError(f"`{out}` exists already", "choose another folder, or remove it")
    world = World(0, 1, torch.device(device))
    stream = open_stream(source, Drawing(size=config.size, seed=config.seed), world)
    if stream.count is not None and stream.count > config.pictures:
        drawing = Drawing(num=config.pictures, size=config.size, seed=config.seed)
        stream = open_stream(source, drawing, world)
    if len(stream.class_names) < 2:
        raise DataError(
            f"`{source}` has no classes to tell apart, and a judge learns nothing else",
            "compare in a network that others trained: --features dinov2-l, transformers:PATH",
        )
    parts = []
    with Bar(stream.count, "pictures") as bar:
        for shown in stream.batches:
            parts.append(shown)
            bar.advance(len(shown.images))
    images, labels = (torch.cat([part[i] for part in parts]) for i in range(2))
    with Bar(None, "steps", images_per_unit=config.batch_size) as bar:

        def watch(_: int, steps: int) -> None:
            bar.total = steps
            bar.bar.update(bar.task, total=steps)
            bar.advance()

        judge = fit_judge(images, labels, stream.class_names, config, watch, device)
    save_judge(out, judge)
    about = judge.about
    return [
        *(f"notice: {note}" for note in stream.notes),
        f"{judge.held_out_accuracy:.2%} of {about['num_held_out']:,} pictures that it has not seen "
        f"are given their class ({len(stream.class_names)} classes; trained on "
        f"{about['num_pictures']:,})",
        f"judge {judge.digest[:12]} in `{out}`",
        f"next: scalegan evaluate RUN --against {source} --features judge:{out}",
    ]
