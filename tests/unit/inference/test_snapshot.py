from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError
from scalegan.inference.gan import load
from scalegan.inference.snapshot import (
    Card,
    build_discriminator,
    build_generator,
    newest,
    read_card,
    save_snapshot,
)
from scalegan.runtime.files import MANIFEST, digest, read_json, write_json
from scalegan.runtime.weights import load_weights
from tests.support import tiny

PIXELS = AutoencoderConfig()
CARD = Card("tiny", tiny.MODEL, PIXELS, (1, 8, 8), ["cat", "dog", "bird"], step=7, seed=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = build_generator(CARD)
    generator.track(torch.randn(3, 16), torch.arange(3))
    save_snapshot(tmp_path / "snapshot", CARD, generator, build_discriminator(CARD))
    return tmp_path / "snapshot"


def rewrite(folder: Path, **changes: object) -> None:
    """Change entries of config.json, with a digest that fits."""
    values = read_json(folder / "config.json") | changes
    write_json(folder / "config.json", {k: v for k, v in values.items() if v is not None})
    manifest = read_json(folder / MANIFEST)
    write_json(folder / MANIFEST, manifest | {"config.json": digest(folder / "config.json")})


def test_round_trip(folder: Path) -> None:
    gan = load(str(folder))
    assert gan.card == CARD == read_card(folder)
    torch.manual_seed(0)
    generator = build_generator(CARD)
    generator.track(torch.randn(3, 16), torch.arange(3))
    expected = generator.state_dict()
    assert gan.generator.state_dict().keys() == expected.keys()
    for name, value in gan.generator.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert not gan.generator.training
    assert not any(parameter.requires_grad for parameter in gan.generator.parameters())
    discriminator = build_discriminator(CARD)
    load_weights(discriminator, folder / "discriminator.safetensors")


def test_a_snapshot_holds_no_pickle_and_a_readable_card(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "discriminator.safetensors", "generator.safetensors", MANIFEST,
    ]  # fmt: skip
    readme = (folder / "README.md").read_text()
    assert "# tiny" in readme and "3: cat, dog, bird" in readme and "7 steps" in readme


def test_a_projector_is_part_of_the_card(tmp_path: Path) -> None:
    aligned = replace(CARD, features=5)
    save_snapshot(
        tmp_path / "aligned", aligned, build_generator(aligned), build_discriminator(aligned)
    )
    card = read_card(tmp_path / "aligned")
    load_weights(build_discriminator(card), tmp_path / "aligned" / "discriminator.safetensors")
    with pytest.raises(CheckpointError, match=r"for `projector\.0\.bias`; expected none$"):
        load_weights(build_discriminator(CARD), tmp_path / "aligned" / "discriminator.safetensors")


def test_the_newest_snapshot_of_a_run(tmp_path: Path) -> None:
    for step in (5, 10, 9):
        save_snapshot(
            tmp_path / "snapshots" / f"step-{step:08d}", CARD, build_generator(CARD), None
        )
    (tmp_path / "config.toml").write_text("")
    assert newest(tmp_path).name == "step-00000010"
    assert newest(tmp_path / "snapshots" / "step-00000005").name == "step-00000005"


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no snapshot$"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not exist$"):
        load(tmp_path / "none")


@pytest.mark.parametrize("name", ["generator.safetensors", "config.json"])
def test_a_damaged_snapshot_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    expected = f"snapshot `{folder}` is damaged: `{name}` does not match its digest"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99; this version reads 2$"),
        ({"autoencoder": {"kind": "magic"}}, 'is not usable: `autoencoder.kind` is "magic"; '),
        ({"autoencoder": {"knd": "kl"}}, r"is not usable: unknown key `autoencoder\.knd`$"),
        ({"autoencoder": "identity"}, "is not usable: "),
        ({"identity": 3}, "is not usable: `identity` is not a table$"),
        ({"model": {"widht": 16}}, r"is not usable: unknown key `model\.widht`$"),
        ({"shape": None}, "is not usable: 'shape'$"),
        ({"shape": 3}, "is not usable: "),
        ({"surprise": 3}, "is not usable: .*surprise"),
    ],
)
def test_unusable_cards_are_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    wider = build_generator(replace(CARD, model=replace(tiny.MODEL, z_width=16)))
    with pytest.raises(CheckpointError) as caught:
        load_weights(wider, folder / "generator.safetensors")
    path = folder / "generator.safetensors"
    assert str(caught.value) == f"`{path}` has (3, 8) for `labels.weight`; expected (3, 16)"
