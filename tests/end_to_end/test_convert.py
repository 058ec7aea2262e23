"""The official code's weights become a snapshot; its pickles are opened by a child alone."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import scalegan as package
from scalegan.convert.convert import load_reference
from tests.conftest import PARITY
from tests.support.runs import scalegan
from tests.unit.convert.test_biggan import HUB, hub_weights

VECTORS = PARITY / "gat" / "loss_align.safetensors"
pytestmark = pytest.mark.skipif(not VECTORS.is_file(), reason=f"no reference vectors in {PARITY}")


def official_checkpoint() -> dict[str, Any]:
    """A checkpoint as the official training program writes it, with the vectors' weights."""
    parts: dict[str, Any] = {"generator": {}, "discriminator": {}}
    for key, value in load_file(VECTORS).items():
        kind, _, rest = key.partition(".")
        if kind == "weights":
            role, _, name = rest.partition(".")
            parts[role][name] = value
    parts["ema"] = {name: value.clone() for name, value in parts["generator"].items()}
    parts["generator"] = {name: value + 1 for name, value in parts["generator"].items()}
    parts["optG"] = {"state": {}, "param_groups": [{"lr": 1e-4}]}
    return parts | {"args": argparse.Namespace(model="GAT"), "steps": 1234}


def test_a_checkpoint_becomes_a_snapshot_with_the_same_images(tmp_path: Path) -> None:
    torch.save(official_checkpoint(), tmp_path / "latest.pt")
    out = tmp_path / "snapshot"
    text = scalegan("convert", str(tmp_path / "latest.pt"), str(out)).stdout
    assert "generator: 7" in text and "discriminator: 7" in text
    gan = package.load(out)
    assert gan.card.step == 1234 and gan.card.features == 12
    vectors = load_file(VECTORS)
    w = gan.generator.map(vectors["in.z"], vectors["in.y"])
    levels = gan.generator.synthesize(w).transpose(0, 1)
    # The averaged generator's: the raw one's weights were shifted.
    assert torch.allclose(levels, vectors["out.disc.fake_levels"], atol=5e-5, rtol=1e-5)
    assert "10: 0, 1, 2" in scalegan("info", str(out)).stdout
    assert gan.sample(4).shape == (4, 3, 8, 8)


def test_safetensors_of_one_network_and_class_names(tmp_path: Path) -> None:
    ema = official_checkpoint()["ema"]
    save_file(ema, tmp_path / "generator.safetensors")
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    scalegan(
        *("convert", str(tmp_path / "generator.safetensors"), str(tmp_path / "out")),
        *("--class-names", str(tmp_path / "names.txt")),
    )
    assert package.load(tmp_path / "out").indices(["digit 3"]) == [3]


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("opened",)


def test_a_hostile_pickle_is_refused_unless_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(official_checkpoint() | {"args": Hostile()}, "hostile.pt")
    done = scalegan("convert", "hostile.pt", "out", check=False)
    assert done.returncode == 2
    assert "error: `hostile.pt` does not load as plain tensors" in done.stderr
    assert not Path("opened").exists() and not Path("out").exists()
    scalegan("convert", "hostile.pt", "out", "--allow-unsafe-pickle")
    assert Path("opened").exists() and Path("out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a pickle", "does not load as plain tensors"),
        (b"", "cannot be read"),
        (None, "there is no file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "file.pt").write_bytes(content)
    done = scalegan("convert", str(tmp_path / "file.pt"), str(tmp_path / "out"), check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"pos_embed": torch.zeros(1, 4, 8)}, tmp_path / "other.safetensors")
    done = scalegan(
        "convert", str(tmp_path / "other.safetensors"), str(tmp_path / "out"), check=False
    )
    assert done.returncode == 2 and "are not those of a GAT" in done.stderr


def test_the_hub_s_biggan_becomes_a_snapshot(tmp_path: Path) -> None:
    """Small weights in the hub's layout, of the blocks that a BigGAN-deep of 16 pixels has."""
    sizes = HUB | {"layers": [[False, 4, 4], [True, 4, 4]] * 2}
    weights = hub_weights(sizes)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    command = ["convert", str(tmp_path / "pytorch_model.bin"), str(tmp_path / "out")]
    scalegan(*command, "--hub-config", str(tmp_path / "config.json"))
    gan = package.load(tmp_path / "out")
    z, labels = torch.randn(2, *gan.generator.z_shape), torch.tensor([1, 4])
    expected = load_reference("biggan-hub", "generator", sizes, weights)(z, labels)
    assert torch.equal(gan.generator(z, labels), expected)
    assert gan.sample(4, truncation=0.5).shape == (4, 3, 16, 16)

    (tmp_path / "config.json").write_text(json.dumps(HUB))  # a block less
    torch.save(hub_weights(), tmp_path / "pytorch_model.bin")
    command[-1] = str(tmp_path / "other")
    odd = scalegan(*command, "--hub-config", str(tmp_path / "config.json"), check=False).stderr
    assert "lists other blocks than a BigGAN-deep of its size has" in odd

    for text, reason in (("{", "cannot be read"), ('{"z_dim": 3}', "is not the config of a hub")):
        (tmp_path / "config.json").write_text(text)
        odd = scalegan(*command, "--hub-config", str(tmp_path / "config.json"), check=False).stderr
        assert reason in odd and "Traceback" not in odd
