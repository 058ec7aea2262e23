"""Checkpoints: all of a train state, written whole, verified, and resumed to the bit."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scalegan.config import parse, resolve
from scalegan.errors import CheckpointError, ScaleganError
from scalegan.runtime.files import (
    atomic_folder,
    damage,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
)
from scalegan.runtime.sharding import (
    like,
    load_parts,
    local,
    part_shapes,
    save_parts,
    shared_folder,
)
from scalegan.settings import Config
from scalegan.snapshot import load_weights
from scalegan.train.state import TrainState

FORMAT = 2
KEEP = 2
"""Valid checkpoints kept; the older one is the way back if the newer one is damaged on the disk."""

# A run is its data, networks and seed; a checkpoint of another one cannot be resumed. Other
# settings (duration, rates, how often to log) may change on the way and are shown.
IDENTITY = ("seed", "model", "autoencoder.kind", "autoencoder.store", "data.source",
            "data.size", "objective.alignment")  # fmt: skip
# A teacher is known by its digest; its folder may move.
MAY_CHANGE = ("objective.alignment.teacher_path",)


def save(folder: Path, state: TrainState, class_names: list[str]) -> Path:
    """Write checkpoint `step-NNNNNNNN`, verify it, then let older ones go.

    Raises:
        CheckpointError: if a weight is not finite or what was written does not verify.
    """
    for name, tensor in state_tensors(state).items():
        if not local(tensor).isfinite().all():
            raise CheckpointError(f"`{name}` is not finite; no checkpoint is written of it")
    path = folder / f"step-{state.step:08d}"
    with shared_folder(path, state.world) if state.is_sharded else atomic_folder(path) as draft:
        if state.is_sharded:
            save_parts(state_tensors(state), draft)
            if not state.world.is_first:
                return path
        else:
            _save_whole(state, draft)
        counters = {name: getattr(state, name) for name in ("step", "images_seen", "attempt")}
        about: dict[str, Any] = {"num_ranks": state.world.size, "class_names": class_names}
        about["is_sharded"] = state.is_sharded
        about["teacher"] = _teacher_digest(state)
        about["config"] = asdict(state.config)
        about["autoencoder"] = state.autoencoder.identity()
        about["shards"] = state.shards
        write_json(draft / "state.json", {"format": FORMAT, **counters, **about})
    if problem := damage(path):
        raise CheckpointError(f"checkpoint `{path}` was written but {problem}", "check the disk")
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def _save_whole(state: TrainState, draft: Path) -> None:
    for name, network in _networks(state).items():
        save_tensors(network.state_dict(), draft / f"{name}.safetensors")
    for name, optimizer in state.optimizers.items():
        save_tensors(_optimizer_tensors(optimizer), draft / f"optimizer-{name}.safetensors")


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first, damaged ones included."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def find_newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint; damaged ones are passed over, aloud.

    Raises:
        CheckpointError: if there are checkpoints and all are damaged.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        problem = damage(path)
        if problem is None:
            return path
        tell(f"passing over checkpoint `{path}`: {problem}")
    if found:
        raise CheckpointError(
            f"all {len(found)} checkpoints in `{folder}` are damaged",
            "start again in another folder, from a snapshot with --init-from if there is one",
        )
    return None


def restore(path: Path, state: TrainState, class_names: list[str]) -> dict[str, tuple[Any, Any]]:
    """Put a checkpoint's state into place.

    Returns:
        Settings that differ, as name -> (then, now).

    Raises:
        CheckpointError: if it is missing, damaged or of another run.
    """
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint `{path}`")
    if problem := damage(path):
        raise CheckpointError(f"checkpoint `{path}` is damaged: {problem}", "resume an older one")
    about = read_json(path / "state.json")
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint `{path}` has format {about.get('format')}; this version reads {FORMAT}"
        )
    changed = differences(_config(about, path), state.config)
    for name, (then, now) in changed.items():
        if name.startswith(IDENTITY) and name not in MAY_CHANGE:
            raise CheckpointError(
                f"checkpoint `{path}` was made with `{name}` = {then!r}, not {now!r}",
                "choose another --run, or take its weights only with --init-from",
            )
    if about["autoencoder"] != state.autoencoder.identity():
        raise CheckpointError(
            f"checkpoint `{path}` was made with another autoencoder, or its files have changed",
            "choose another --run, or put back the autoencoder it was made with",
        )
    if about["shards"] != state.shards:
        raise CheckpointError(
            f"checkpoint `{path}` was made on other data than `data.shards` holds now",
            "choose another --run, or put back the shards it was made on",
        )
    if about["class_names"] != class_names:
        raise CheckpointError(
            f"checkpoint `{path}` knows {len(about['class_names'])} classes that differ from the "
            f"{len(class_names)} of the data"
        )
    if about.get("teacher", "") != _teacher_digest(state):
        raise CheckpointError(
            f"checkpoint `{path}` was trained with another teacher's weights",
            "name the folder it was trained with by --objective.alignment.teacher-path",
        )
    if about.get("is_sharded"):
        _load_parts(state, path)
    else:
        for name, network in _networks(state).items():
            load_weights(network, path / f"{name}.safetensors")
        for name, optimizer in state.optimizers.items():
            _load_optimizer(optimizer, load_tensors(path / f"optimizer-{name}.safetensors"))
    for name in ("step", "images_seen", "attempt"):
        setattr(state, name, about[name])
    return changed


def differences(then: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings whose values differ, dotted."""
    before, after = flatten(asdict(then)), flatten(asdict(now))
    return {
        name: (before.get(name), value)
        for name, value in after.items()
        if before.get(name) != value
    }


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def state_tensors(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of a train state by name: what two equal states must agree on."""
    tensors = {
        f"{name}.{key}": value
        for name, network in _networks(state).items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in state.optimizers.items():
        for key, value in _optimizer_tensors(optimizer).items():
            tensors[f"optimizer-{name}.{key}"] = value
    return tensors


def _networks(state: TrainState) -> dict[str, torch.nn.Module]:
    return state.networks | {"average": state.average}


def _teacher_digest(state: TrainState) -> str:
    """What identifies a frozen teacher, whose weights are not in checkpoints; "" if unknown."""
    return str(getattr(state.objective.teacher, "digest", ""))


def _config(about: dict[str, Any], path: Path) -> Config:
    try:
        return resolve(parse(about["config"]))
    except (KeyError, ScaleganError) as error:
        raise CheckpointError(
            f"the config in `{path / 'state.json'}` is not usable: {error}"
        ) from None


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's running values as `index.key`, in the order of the network's parameters."""
    moments = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, values in moments.items() for key, value in values.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Running values from the file, rates from the config."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    for number, parameter in enumerate(_parameters(optimizer)):
        values = moments.get(number, {})
        moments[number] = {key: _fitted(value, parameter) for key, value in values.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _fitted(value: Tensor, parameter: Tensor) -> Tensor:
    """Running values of a parameter, sharded as it is; counters as they are."""
    return like(value, parameter) if value.shape == parameter.shape else value


def _load_parts(state: TrainState, path: Path) -> None:
    """Read what ranks wrote together, however many there are now.

    Raises:
        CheckpointError: if a tensor is missing, unexpected or of another shape.
    """
    found = part_shapes(path)
    for name, optimizer in state.optimizers.items():  # room for running values, as many as there
        prefix = f"optimizer-{name}."
        keys = [key for key in found if key.startswith(prefix)]
        empty = {key.removeprefix(prefix): torch.zeros(found[key]) for key in keys}
        _load_optimizer(optimizer, empty)
    expected = state_tensors(state)
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise CheckpointError(
                f"`{path}` has {found.get(name, 'no tensor')} for `{name}`; "
                f"expected {shapes.get(name, 'none')}"
            )
    load_parts(expected, path)
