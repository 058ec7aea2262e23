"""Checkpoints: all of a train state, written whole, verified, and resumed to the bit."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.reading import parse, resolve
from scalegan.config.schema import Config
from scalegan.errors import CheckpointError, ScaleganError
from scalegan.runtime.files import (
    atomic_folder,
    damage,
    fault_point,
    load_tensors,
    read_checked,
    remove_folder,
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
from scalegan.runtime.text import aligned
from scalegan.runtime.weights import load_weights, refuse_other_shapes
from scalegan.train.state import TrainState

Tensors = Mapping[str, Tensor]
Networks = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]

FORMAT = 3
NUM_VALID = 2
"""Valid checkpoints that stay: the older one is the way back if the disk damages the newer one."""

ADAM_KEYS = {"step", "exp_avg", "exp_avg_sq"}

# A run is its data, networks and seed; a checkpoint of another one cannot be resumed. Other
# settings (duration, rates, how often to log) may change on the way and are shown.
IDENTITY = ("seed", "model", "autoencoder.kind", "autoencoder.store", "data.source",
            "data.size", "data.conditional", "data.held_out", "objective.alignment")  # fmt: skip
KINDS = {"step": int, "images_seen": int, "attempt": int, "num_ranks": int, "class_names": list,
          "config": dict, "autoencoder": dict, "shards": str, "teacher": str,
          "is_sharded": bool}  # fmt: skip
# A teacher is known by its digest; its folder may move.
MAY_CHANGE = ("objective.alignment.teacher_path",)


def save_checkpoint(folder: Path, state: TrainState, class_names: list[str]) -> Path:
    """Write checkpoint `step-NNNNNNNN`, verify it, then remove older ones.

    Raises:
        CheckpointError: if a weight is not finite or what was written does not verify.
    """
    if name := first_not_finite(state_tensors(state)):
        raise CheckpointError(f"`{name}` is not finite; no checkpoint is written of it")
    path = folder / name_of(state.step)
    with shared_folder(path, state.world) if state.is_sharded else atomic_folder(path) as draft:
        if state.is_sharded:
            save_parts(state_tensors(state), draft)
            if not state.world.is_first:
                return path
        else:
            save_networks(_networks(state), state.optimizers, draft)
            save_tensors(state.objective.memory, draft / "objective.safetensors")
        counters = {name: getattr(state, name) for name in ("step", "images_seen", "attempt")}
        about = _present(state, class_names) | {"config": asdict(state.config)}
        write_json(draft / "state.json", {"format": FORMAT, **counters, **about})
    fault_point("before verification")
    if problem := damage(path):
        raise CheckpointError(f"checkpoint `{path}` was written but {problem}", "check the disk")
    fault_point("verified")
    remove_old(folder)
    fault_point("old ones gone")
    return path


def first_not_finite(tensors: Tensors) -> str:
    """The name of the first tensor that holds a value that is not finite, or ""."""
    return next((n for n, tensor in tensors.items() if not local(tensor).isfinite().all()), "")


def save_networks(networks: Networks, optimizers: Optimizers, draft: Path) -> None:
    """Write networks and optimizers into a folder, each as a file of its name."""
    for name, network in networks.items():
        save_tensors(network.state_dict(), draft / f"{name}.safetensors")
        fault_point(f"{name} written")
    for name, optimizer in optimizers.items():
        save_tensors(optimizer_tensors(optimizer), draft / f"optimizer-{name}.safetensors")


def load_networks(networks: Networks, optimizers: Optimizers, path: Path) -> None:
    """Read what `save_networks` wrote.

    Raises:
        CheckpointError: if a tensor is missing, unexpected or of another shape.
    """
    for name, network in networks.items():
        load_weights(network, path / f"{name}.safetensors")
    for name, optimizer in optimizers.items():
        file = path / f"optimizer-{name}.safetensors"
        load_optimizer(optimizer, load_tensors(file), file)


def remove_old(folder: Path) -> None:
    """Remove checkpoints that are older than the newest valid ones."""
    valid = 0
    for path in reversed(list_checkpoints(folder)):
        if valid >= NUM_VALID:
            remove_folder(path)
        elif damage(path) is None:  # not from memory: a disk may forget what it once held
            valid += 1


def set_aside(folder: Path, step: int, tell: Callable[[str], None]) -> None:
    """Rename checkpoints after a step: a run that goes on from there makes others of these names.

    Left where they are, they would be the newest ones the next time.
    """
    for path in list_checkpoints(folder):
        if step_of(path) > step:
            aside = path.with_name(f"aside-{path.name}-{time.strftime('%Y%m%d-%H%M%S')}")
            path.rename(aside)
            tell(f"checkpoint `{path}` is later than where this run goes on from: now `{aside}`")


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first, damaged ones included."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdecimal() and path.is_dir()]
    return sorted(found, key=step_of)


def find_newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint; damaged ones are passed over with a notice.

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


def restore_checkpoint(
    path: Path, state: TrainState, class_names: list[str]
) -> dict[str, tuple[Any, Any]]:
    """Put a checkpoint's state into place.

    Returns:
        Settings that differ, as name -> (then, now).

    Raises:
        CheckpointError: if it is missing, damaged or of another run.
    """
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint `{path}`")
    about = _about(path)
    changed = differences(_config(about, path), state.config)
    then, now = _marks(about), _marks(_present(state, class_names))
    changed |= {name: (then[name], now[name]) for name in then if then[name] != now[name]}
    for sentence, hint in _refusals(changed, about, class_names, bool(state.config.data.shards)):
        others = (
            "".join(f"\n  {line}" for line in difference_table(changed)) if len(changed) > 1 else ""
        )
        raise CheckpointError(f"checkpoint `{path}` {sentence}", hint + others)
    if about["is_sharded"]:
        _load_parts(state, path)
    else:
        _load_whole(state, path)
    for name in ("step", "images_seen", "attempt"):
        setattr(state, name, about[name])
    return changed


def difference_table(changed: dict[str, tuple[Any, Any]]) -> list[str]:
    """Lines of what differs: name, then, now; long values are cut."""
    rows = [(n, _short(then), f"-> {_short(now)}") for n, (then, now) in changed.items()]
    return aligned(rows)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _present(state: TrainState, class_names: list[str]) -> dict[str, Any]:
    """What identifies data, autoencoder, teacher and ranks, as `state.json` has it."""
    return {
        "autoencoder": state.autoencoder.identity(),
        "shards": state.shards,
        "class_names": class_names,
        "teacher": _teacher_digest(state),
        "num_ranks": state.world.size,
        "is_sharded": state.is_sharded,
    }


def _marks(about: dict[str, Any]) -> dict[str, Any]:
    """The same, flat and named for a reader."""
    return {
        **flatten(about["autoencoder"], "autoencoder's "),
        "fingerprint of the data": about["shards"],
        "classes": ", ".join(map(str, about["class_names"])),
        "digest of the teacher": about["teacher"],
        "ranks": about["num_ranks"],
    }


def _refusals(
    changed: dict[str, tuple[Any, Any]], about: dict[str, Any], names: list[str], is_sharded: bool
) -> Iterator[tuple[str, str]]:
    """Why a checkpoint cannot be resumed: sentences that go on after its name, with their hint."""
    for name, (then, now) in changed.items():
        if name.startswith(IDENTITY) and name not in MAY_CHANGE:
            yield (
                f"was made with `{name}` = {then!r}, not {now!r}",
                "choose another --run, or take its weights only with --init-from",
            )
    if any(name.startswith("autoencoder's ") for name in changed):
        yield (
            "was made with another autoencoder, or its files have changed",
            "choose another --run, or put back the autoencoder it was made with",
        )
    # Images in memory were decoded just now, and versions of decoders differ: shown, not refused.
    if "fingerprint of the data" in changed and is_sharded:
        yield (
            "was made on other data than `data.shards` holds now",
            "choose another --run, or put back the shards it was made on",
        )
    if "classes" in changed:
        yield (
            f"knows {len(about['class_names'])} classes that differ from the {len(names)} of the "
            "data",
            "choose another --run",
        )
    if "digest of the teacher" in changed:
        yield (
            "was trained with another teacher's weights",
            "name the folder it was trained with by --objective.alignment.teacher-path",
        )


def _about(path: Path) -> dict[str, Any]:
    """A checkpoint's `state.json`, checked.

    Raises:
        CheckpointError: if it is damaged, of another format or lacks something.
    """
    found = read_checked(path, "state.json", FORMAT, "checkpoint", "resume an older one")
    about = {"teacher": ""} | found
    for name, kind in KINDS.items():
        value = about.get(name)
        is_usable = type(value) is kind and (kind is not int or value in range(2**53))
        if not is_usable:
            raise CheckpointError(
                f"`{path / 'state.json'}` is not usable: `{name}` is {_short(value)}"
            )
    return about


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
    memory = {f"objective.{name}": value for name, value in state.objective.memory.items()}
    return tensors_of(_networks(state), state.optimizers) | memory


def tensors_of(networks: Networks, optimizers: Optimizers) -> dict[str, Tensor]:
    """Every tensor of networks and optimizers by name."""
    parts = {name: network.state_dict() for name, network in networks.items()}
    for name, optimizer in optimizers.items():
        parts[f"optimizer-{name}"] = optimizer_tensors(optimizer)
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def _networks(state: TrainState) -> dict[str, nn.Module]:
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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's running values as `index.key`, in the order of the network's parameters."""
    moments = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, values in moments.items() for key, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, path: Path) -> None:
    """Running values as `optimizer_tensors` names them, rates from the config.

    Args:
        path: where they are from, for messages.

    Raises:
        CheckpointError: if a value is missing, unexpected or of another shape.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        place = int(index) if index.isdecimal() else -1
        shapes = [(), *(tuple(p.shape) for p in parameters[place : place + 1] if place >= 0)]
        if tuple(value.shape) not in shapes[key != "step" :]:
            raise CheckpointError(f"`{path}` has {tuple(value.shape)} for `{name}`")
        moments.setdefault(place, {})[key] = value
    for place, values in moments.items():
        if values.keys() != ADAM_KEYS:
            raise CheckpointError(f"`{path}` has {', '.join(values)} for parameter {place}")
    groups = optimizer.state_dict()["param_groups"]
    for number, parameter in enumerate(parameters):
        values = moments.get(number, {})
        moments[number] = {key: _fitted(value, parameter) for key, value in values.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _fitted(value: Tensor, parameter: Tensor) -> Tensor:
    """Running values of a parameter, sharded as it is; counters as they are."""
    return like(value, parameter) if value.shape == parameter.shape else value


def _load_whole(state: TrainState, path: Path) -> None:
    load_networks(_networks(state), state.optimizers, path)
    remembered = load_tensors(path / "objective.safetensors")
    for name, value in state.objective.memory.items():
        value.copy_(remembered.get(name, value))  # a term that is new begins anew


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
        load_optimizer(optimizer, empty, path)
    expected = state_tensors(state)
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    refuse_other_shapes(f"`{path}`", found, shapes)
    load_parts(expected, path)
