"""Weights of other code become snapshots; pickles are opened by a child alone."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import scalegan as package
from scalegan.inference.gan import GAN
from tests.conftest import PARITY
from tests.support.reference_settings import load_reference
from tests.support.runs import scalegan
from tests.unit.convert import test_biggan as of_biggan
from tests.unit.convert import test_gansformer as of_gansformer
from tests.unit.convert import test_ladagan as of_ladagan
from tests.unit.convert.test_biggan import HUB, hub_weights

VECTORS = PARITY / "gat" / "loss_align.safetensors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_file(), reason=f"no vectors in {PARITY}")


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


@needs_vectors
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


@needs_vectors
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


@needs_vectors
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
    save_file({"conv1.weight": torch.zeros(1, 4, 8)}, tmp_path / "other.safetensors")
    command = ["convert", str(tmp_path / "other.safetensors"), str(tmp_path / "out")]
    done = scalegan(*command, check=False)
    assert done.returncode == 2 and "have the names of no system we know" in done.stderr
    assert "hint: --system gat|ladagan|biggan|gansformer|biggan-hub" in done.stderr
    done = scalegan(*command, "--system", "gat", check=False)
    assert done.returncode == 2 and "are not those of GAT's official code" in done.stderr


def converted(
    folder: Path, weights: dict[str, Any], *options: str, system: str
) -> tuple[GAN, Path]:
    """Convert by the command, load by the public function."""
    torch.save(weights, folder / "weights.pt")
    out = folder / "snapshot"
    text = scalegan("convert", str(folder / "weights.pt"), str(out), *options).stdout
    assert text.startswith(f"system: {system}")
    return package.load(out), out


def same_outputs(generator: nn.Module, expected: nn.Module) -> bool:
    torch.manual_seed(0)
    z, labels = torch.randn(2, *generator.z_shape), torch.tensor([0, 1])
    labels = labels if generator.num_classes else torch.zeros_like(labels)
    with torch.no_grad():
        return torch.equal(generator(z, labels), expected(z, labels))


def same_weights(out: Path, expected: nn.Module) -> bool:
    found, own = load_file(out / "discriminator.safetensors"), expected.state_dict()
    return found.keys() == own.keys() and all(torch.equal(found[key], own[key]) for key in own)


def test_an_official_ladagan_is_recognized_and_sized(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = of_ladagan.generator_weights() | {"ch_conv.weight": torch.randn(3, 4, 3, 3)}
    others = of_ladagan.discriminator_weights()
    parts = {"G_ema": weights, "G": {k: v + 1 for k, v in weights.items()}, "D": others}
    gan, out = converted(tmp_path, parts, system="ladagan (LadaGAN's official code)")
    sizes = of_ladagan.G_CONFIG | {"img_size": 32}
    assert same_outputs(gan.generator, load_reference("ladagan", "generator", sizes, weights))
    of = load_reference("ladagan", "discriminator", of_ladagan.D_CONFIG, others)
    assert same_weights(out, of)
    assert gan.sample(2).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_ports_biggan_is_recognized_and_sized(is_shared: bool, tmp_path: Path) -> None:
    sizes = of_biggan.PORT | ({} if is_shared else {"hier": False, "G_shared": False})
    weights = of_biggan.port_weights(sizes)
    others = of_biggan.discriminator_weights(sizes)
    parts = {"G": weights, "D": others}
    gan, out = converted(tmp_path, parts, system="biggan (BigGAN's PyTorch port)")
    assert same_outputs(gan.generator, load_reference("biggan", "generator", sizes, weights))
    assert same_weights(out, load_reference("biggan", "discriminator", sizes, others))
    assert gan.sample(2).shape == (2, 3, 32, 32)


def test_one_network_of_the_port_alone(tmp_path: Path) -> None:
    weights = of_biggan.port_weights(of_biggan.PORT)
    (tmp_path / "more.json").write_text('{"norm_eps": 0.001}')
    options = ["--model", str(tmp_path / "more.json")]
    gan, _ = converted(tmp_path, weights, *options, system="biggan ")
    expected = of_biggan.PORT | {"BN_eps": 0.001}
    assert same_outputs(gan.generator, load_reference("biggan", "generator", expected, weights))
    torch.save(of_biggan.discriminator_weights(of_biggan.PORT), tmp_path / "D.pth")
    done = scalegan("convert", str(tmp_path / "D.pth"), str(tmp_path / "other"), check=False)
    assert "the file holds no generator in the names of biggan" in done.stderr


def test_an_official_gansformer_needs_what_no_tensor_shows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, others = of_gansformer.generator_weights(), of_gansformer.discriminator_weights()
    others |= {"b4.out.weight": torch.randn(1, 6), "b4.out.bias": torch.randn(1)}
    parts = {"G_ema": weights, "D": others}
    torch.save(parts, tmp_path / "weights.pt")
    command = ["convert", str(tmp_path / "weights.pt"), str(tmp_path / "none")]
    done = scalegan(*command, check=False)
    assert done.returncode == 2 and not (tmp_path / "none").exists()
    assert "the tensors of a gansformer do not show `integration`, `norm`, `is_st" in done.stderr
    assert "hint: state them in a JSON file, --model FILE" in done.stderr
    stated: dict[str, Any] = {
        "integration": "multiply", "norm": "layer", "is_styled": True, "clusterings": 1,
        "carries_assignments": False, "component_positions": False,
    }  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(stated))
    options = ["--model", str(tmp_path / "model.json")]
    gan, out = converted(tmp_path, parts, *options, system="gansformer (GANsformer's official")
    of = load_reference("gansformer", "generator", of_gansformer.OF_GENERATOR, weights)
    assert same_outputs(gan.generator, of)
    sizes = of_gansformer.OF_DISCRIMINATOR | {"c_dim": 0}
    assert same_weights(out, load_reference("gansformer", "discriminator", sizes, others))
    (tmp_path / "model.json").write_text(json.dumps(stated | {"norms": "layer"}))
    done = scalegan(*command, *options, check=False)
    assert "unknown key `model.norms`" in done.stderr


def test_fields_that_have_their_defaults_are_named(tmp_path: Path) -> None:
    torch.save(of_biggan.port_weights(of_biggan.PORT), tmp_path / "G.pth")
    command = ["convert", str(tmp_path / "G.pth")]
    text = scalegan(*command, str(tmp_path / "first")).stdout
    assert "notice: the tensors do not show `norm_eps` 1e-05, `spectral_eps` 1e-06; state" in text
    (tmp_path / "model.json").write_text('{"norm_eps": 0.001}')
    options = ["--model", str(tmp_path / "model.json")]
    text = scalegan(*command, str(tmp_path / "second"), *options).stdout
    assert "notice: the tensors do not show `spectral_eps` 1e-06; state" in text


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_the_hubs_biggan_becomes_a_snapshot(suffix: str, tmp_path: Path) -> None:
    """Small weights in the hub's layout, of the blocks that a BigGAN-deep of 16 pixels has."""
    sizes = HUB | {"layers": [[False, 4, 4], [True, 4, 4]] * 2}
    weights = hub_weights(sizes)
    file, config, out = (
        tmp_path / name for name in (f"pytorch_model.{suffix}", "config.json", "out")
    )
    save_file(weights, file) if suffix == "safetensors" else torch.save(weights, file)
    config.write_text(json.dumps(sizes))
    text = scalegan("convert", str(file), str(out), "--model", str(config)).stdout
    assert text.startswith("system: biggan-hub\n")
    gan = package.load(out)
    expected = load_reference("biggan-hub", "generator", sizes, weights)
    assert same_outputs(gan.generator, expected)
    assert gan.sample(4, truncation=0.5).shape == (4, 3, 16, 16)


def test_the_hubs_config_is_checked(tmp_path: Path) -> None:
    torch.save(hub_weights(), tmp_path / "pytorch_model.bin")
    command = ["convert", str(tmp_path / "pytorch_model.bin"), str(tmp_path / "other")]
    done = scalegan(*command, check=False)
    assert "need the `config.json` that lies beside them" in done.stderr
    for text, reason in (
        (json.dumps(HUB), "lists other blocks than a BigGAN-deep of its size has"),  # a block less
        ("{", "cannot be read"),
        ("[]", "does not hold a table of sizes"),
        ('{"z_dim": 3}', "is not the config of a hub"),
    ):
        (tmp_path / "config.json").write_text(text)
        done = scalegan(*command, "--model", str(tmp_path / "config.json"), check=False)
        assert reason in done.stderr and "Traceback" not in done.stderr
