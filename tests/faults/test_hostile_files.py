"""Configs, recipes, checkpoints and shards made hostile: one sentence, nothing executed, bounded.

Every case is a file that somebody could hand over, with digests that are right: what digests find
is in test_damage.py.
"""

import json
import pickle
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalegan.config import reading as configs
from scalegan.data.shards import Shards
from scalegan.errors import ScaleganError
from scalegan.runtime import files
from scalegan.runtime.files import MANIFEST, digest, read_json, write_json
from scalegan.train import checkpoint
from tests.support import tiny

NAMES = ["a", "b", "c"]
MOST_SECONDS, MOST_MEGABYTES = 5.0, 300
HUGE = "9" * 5000


class Bomb:
    """Says so if it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def garbage(seed: int, length: int = 200) -> bytes:
    return random.Random(seed).randbytes(length)


def tomls() -> Iterator[tuple[str, bytes]]:
    """Configs that must be refused."""
    texts = {
        "deep array": "seed = " + "[" * 100_000,
        "deep table": "a" + ".a" * 50_000 + " = 1",
        "huge number": f"seed = {HUGE}",
        "negative seed": "seed = -1",
        "text for a number": "seed = '1'",
        "unknown key": "os = 'system'",
        "unknown part": "[constructor]\nclass = 'os.system'",
        "object": "[model]\n_target_ = 'os.system'\ncommand = 'true'",
        "date": "seed = 2026-01-01",
        "duplicate": "seed = 1\nseed = 2",
        "not closed": "[model",
        "infinite rate": "[optim]\nlearning_rate = inf",
        "no rate": "[optim]\nlearning_rate = nan",
        "no architecture": "[model]\narchitecture = '__import__(\"os\")'",
        "endless": "[train]\nduration = 'inf steps'",
        "expression": "[train]\nduration = '9**9**9 steps'",
        "no batch": "[train]\nbatch_size = 0",
        "list for a table": "model = [1, 2]",
        "table for a number": "[seed]\na = 1",
        "blank name": "'' = 1",
        "long": "name = '" + "x" * 2**21 + "'",
        "no text": "\udcff",
    }
    for name, text in texts.items():
        yield name, text.encode("utf-8", "surrogateescape")
    for seed in range(30):
        yield f"garbage {seed}", garbage(seed)
    parts = ["model", "data", "objective", "optim", "train", "every", "evaluate", "autoencoder"]
    for part in parts:
        for value in ("1", "'text'", "[]", "true", "{ a = 1 }"):
            yield f"{part} = {value}", f"{part} = {value}".encode()


JSON_BOMBS: dict[str, str] = {
    "deep": "[" * 200_000,
    "huge number": f'{{"format": {HUGE}}}',
    "a list": "[1, 2, 3]",
    "null": "null",
    "empty": "",
    "NaN": "NaN",
    "not UTF-8": "\udcff",
}


def change(path: Path, *keys: str, to: Any) -> None:
    """Set a value inside a JSON file; `del` removes it."""
    values = read_json(path)
    place = values
    for key in keys[:-1]:
        place = place[key]
    if to == "del":
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    write_json(path, values)


def header(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with a header of one's own."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def spoil_checkpoint() -> Iterator[tuple[str, Callable[[Path, Path], object]]]:
    """Changes to a checkpoint, after which its digests are made right again."""
    for name, text in JSON_BOMBS.items():
        raw = text.encode("utf-8", "surrogateescape")
        yield f"state {name}", lambda at, _, raw=raw: (at / "state.json").write_bytes(raw)
    for key in checkpoint.KINDS:
        if key != "teacher":
            yield f"no {key}", lambda at, _, key=key: change(at / "state.json", key, to="del")
        for wrong in (None, -1, [1], "text", {"a": 1}, 10**30):
            kind = checkpoint.KINDS[key]
            if type(wrong) is kind and kind is not int and key != "config":
                continue
            yield (
                f"{key} = {str(wrong)[:9]}",
                lambda at, _, key=key, wrong=wrong: change(at / "state.json", key, to=wrong),
            )
    for weights in ("generator", "average", "optimizer-generator"):
        tensors = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        vast = {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
        contents = {
            "empty": b"",
            "garbage": garbage(1),
            "vast header": struct.pack("<Q", 2**60) + b"{}",
            "header past the end": struct.pack("<Q", 10_000) + b"{}",
            "no data": header(tensors),
            "other tensors": header(tensors, bytes(8)),
            "vast tensor": header(vast, bytes(8)),
            "negative": header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}),
            "header of text": header("no table"),  # type: ignore[arg-type]
        }
        for name, content in contents.items():
            yield (
                f"{weights} {name}",
                lambda at, _, weights=weights, content=content: (
                    at / f"{weights}.safetensors"
                ).write_bytes(content),
            )
        yield (
            f"{weights} pickle",
            lambda at, marker, weights=weights: (at / f"{weights}.safetensors").write_bytes(
                pickle.dumps(Bomb(marker))
            ),
        )


def spoil_manifest() -> Iterator[tuple[str, Callable[[Path, Path], object]]]:
    """Changes to the manifest of digests itself."""
    for name, text in JSON_BOMBS.items():
        raw = text.encode("utf-8", "surrogateescape")
        yield f"manifest {name}", lambda at, _, raw=raw: (at / MANIFEST).write_bytes(raw)
    for other in ("/dev/zero", "../../../../dev/zero", "/dev/tty", "", ".", "a\0b", "x" * 5000):
        yield (
            f"manifest lists {other[:20]!r}",
            lambda at, _, other=other: write_json(at / MANIFEST, {other: "0" * 64}),
        )
    yield "manifest is a device", lambda at, _: link(at / MANIFEST, "/dev/zero")
    yield "weights are a device", lambda at, _: link(at / "generator.safetensors", "/dev/zero")


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def npy(shape: str, descr: str = "'<f4'", data: bytes = b"") -> bytes:
    """An .npy file with a header of one's own."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def spoil_shards() -> Iterator[tuple[str, Callable[[Path, Path], object]]]:
    """Changes to a folder of shards: its manifest, and headers of its arrays."""
    for name, text in JSON_BOMBS.items():
        raw = text.encode("utf-8", "surrogateescape")
        yield f"shards {name}", lambda at, _, raw=raw: (at / MANIFEST).write_bytes(raw)
    for key in ("complete", "keep_images", "mirror", "row", "shards", "class_names"):
        for wrong in ("del", None, 10**30, [{}], "text"):
            yield (
                f"shards {key} = {str(wrong)[:9]}",
                lambda at, _, key=key, wrong=wrong: change(at / MANIFEST, key, to=wrong),
            )
    arrays = {
        "vast": npy("(1099511627776, 4)"),
        "overflow": npy("(4294967296, 4294967296)"),
        "negative": npy("(-1, 1)"),
        "objects": npy("(2,)", "'|O'", bytes(64)),
        "code": npy("__import__('os').system('true')"),
        "code in descr": npy("(1,)", "__import__('os')"),
        "deep": npy("(" * 5000),
        "empty": b"",
        "garbage": garbage(2),
        "zip": b"PK\x05\x06" + bytes(18),
    }
    for file in ("stored.npy", "labels.npy"):
        for name, content in arrays.items():
            yield (
                f"{file} {name}",
                lambda at, _, file=file, content=content: (at / "shard-00000" / file).write_bytes(
                    content
                ),
            )
        yield (
            f"{file} pickle",
            lambda at, marker, file=file: np.save(
                at / "shard-00000" / file, np.array([Bomb(marker)]), allow_pickle=True
            ),
        )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint, and sound shards."""
    folder = tmp_path_factory.mktemp("good")
    state = tiny.state()
    checkpoint.save_checkpoint(folder, state, NAMES)
    from tests.unit.data.test_shards import write as write_shards

    write_shards(folder / "shards")
    return folder


def mend_digests(folder: Path) -> None:
    if not (folder / "state.json").is_symlink():
        listed = sorted(f for f in folder.iterdir() if f.name != MANIFEST and not f.is_symlink())
        write_json(folder / MANIFEST, {file.name: digest(file) for file in listed})


def refuse(act: Callable[[], object], name: str) -> None:
    """An act must be refused with one sentence, soon, and without much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    since = time.monotonic()
    with pytest.raises(ScaleganError) as caught:
        act()
    assert time.monotonic() - since < MOST_SECONDS, name
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_MEGABYTES, (name, grown)
    said = str(caught.value)
    assert said and "\n" not in said.strip() and len(said) < 1000, (name, said)


def test_configs(tmp_path: Path) -> None:
    for name, content in tomls():
        path = tmp_path / "config.toml"
        path.write_bytes(content)
        refuse(lambda path=path: configs.resolve(configs.read(str(path))), name)
    for device in ("/dev/zero", str(tmp_path)):
        refuse(lambda device=device: configs.read(device), device)


def test_checkpoints(good: Path, tmp_path: Path) -> None:
    state, marker = tiny.state(), tmp_path / "executed"
    cases = [(True, *case) for case in spoil_checkpoint()]
    cases += [(False, *case) for case in spoil_manifest()]
    for is_mended, name, spoil in cases:
        path = tmp_path / "step-00000000"
        shutil.copytree(good / path.name, path)
        spoil(path, marker)
        if is_mended:
            mend_digests(path)
        refuse(lambda path=path: checkpoint.restore_checkpoint(path, state, NAMES), name)
        shutil.rmtree(path)
    assert not marker.exists()


def test_shards(good: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    for name, spoil in spoil_shards():
        path = tmp_path / "shards"
        shutil.copytree(good / "shards", path)
        spoil(path, marker)
        refuse(lambda path=path: Shards(path).verify(), name)
        shutil.rmtree(path)
    assert not marker.exists()


def test_there_are_two_hundred() -> None:
    cases = [*tomls(), *spoil_checkpoint(), *spoil_manifest(), *spoil_shards()]
    assert len(cases) >= 200, len(cases)


def test_control_reading_without_a_limit_is_noticed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        files, "read_json", lambda path: json.loads(path.read_text(encoding="utf-8"))
    )
    path = tmp_path / "step-00000000"
    shutil.copytree(good / path.name, path)
    (path / "state.json").write_text(JSON_BOMBS["deep"])
    mend_digests(path)
    with pytest.raises(RecursionError):
        checkpoint.restore_checkpoint(path, tiny.state(), NAMES)
