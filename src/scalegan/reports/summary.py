"""`scalegan info`: a run or a snapshot in a few lines: sizes, cost, checkpoints, last values."""

from pathlib import Path

from scalegan.errors import CheckpointError
from scalegan.inference.snapshot import newest, read_card
from scalegan.planning.cost import costs
from scalegan.runtime.files import damage, read_json
from scalegan.runtime.log import read_metrics


def summarize(path: Path) -> list[str]:
    """Summarize a run or a snapshot folder in lines for people.

    Raises:
        CheckpointError: if it is neither.
    """
    folder = newest(path)
    card = read_card(folder)
    channels, side, _ = card.shape
    names = ", ".join(card.class_names[:12]) + (", ..." if len(card.class_names) > 12 else "")
    lines = [
        f"{card.name}: {folder}",
        f"  architecture   {card.model}",
        f"  samples        {channels} x {side} x {side}, autoencoder `{card.autoencoder.kind}`",
        f"  classes        {len(card.class_names)}: {names}",
        f"  trained        {card.step:,} steps, {card.images_seen:,} images, seed {card.seed}",
    ]
    for name, cost in costs(card, (folder / "discriminator.safetensors").is_file()).items():
        size = f"{cost.parameters:,} parameters"
        lines.append(f"  {name:14} {size}, {cost.flops / 1e9:.3f} GFLOP per image forward")
    return lines + (_run_lines(path) if (path / "config.toml").is_file() else [])


def _run_lines(run: Path) -> list[str]:
    """Checkpoints and the last numbers of a run."""
    paths = sorted((run / "checkpoints").glob("step-*"))
    lines = [f"  checkpoint     {path}: {_state(path)}" for path in paths]
    metrics = read_metrics(run)
    if metrics:
        last = [f"{k} {v:.3g}" for k, v in metrics[-1].items() if "/" in k and v is not None]
        lines.append(f"  last numbers   step {metrics[-1]['step']:,}: {', '.join(last)}")
    return lines


def _state(checkpoint: Path) -> str:
    problem = damage(checkpoint)
    if problem:
        return f"damaged ({problem})"
    try:
        about = read_json(checkpoint / "state.json")
        return f"step {about['step']:,}, {about['num_ranks']} rank(s), attempt {about['attempt']}"
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"`{checkpoint / 'state.json'}` is not usable: {error}") from None
