"""An autoencoder's entry is all that the rest of the package knows of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.files import WEIGHTS
from scalegan.autoencoders.pixels import Identity
from scalegan.autoencoders.tables import AUTOENCODERS, Kind, make_autoencoder, named
from scalegan.config.schema import AutoencoderConfig, Config, DataConfig
from scalegan.errors import ConfigError
from scalegan.inference.gan import load
from scalegan.inference.snapshot import Card, image_side, save_snapshot
from scalegan.models.tables import ARCHITECTURES
from scalegan.planning.plan import sample_shape
from scalegan.train.build import build
from tests.support import tiny
from tests.support.latents import save_kl, save_tiny
from tests.unit.train.test_build import ALONE


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_kl(tmp_path / "kl")


def test_a_name_or_a_folder_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    assert named("identity") == AutoencoderConfig()
    assert named("sd-vae-ft-mse") == AutoencoderConfig("sd-vae-ft-mse")
    assert named(str(folder), "mean") == AutoencoderConfig("kl", str(folder), "mean")
    tiny = save_tiny(tmp_path / "tiny")
    assert named(str(tiny)).kind == "tiny"
    assert named(f"taef2:{tiny}") == AutoencoderConfig("taef2", str(tiny))
    (tmp_path / "encoder.safetensors").touch()
    assert named(str(tmp_path)).kind == "taef2"


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        named("sd-vae")
    assert str(caught.value) == "there is no autoencoder and no folder named `sd-vae`"
    assert caught.value.hint == "names: identity, sd-vae-ft-ema, sd-vae-ft-mse, taesd"


@pytest.mark.parametrize("kind", ["sd-vae-ft-ema", "sd-vae-ft-mse", "taesd"])
def test_offline_says_where_to_put_the_files(kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_autoencoder(AutoencoderConfig(kind), 3, 256)
    assert str(caught.value) == f"`{kind}` is not on this machine and the hub cannot be reached"
    assert f"/{kind} into a folder" in caught.value.hint and WEIGHTS in caught.value.hint


@pytest.mark.parametrize("kind", ["kl", "tiny", "taef2"])
def test_what_no_hub_has_needs_a_path(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"^`autoencoder.kind` `{kind}` needs `autoencoder.pa"):
        make_autoencoder(AutoencoderConfig(kind), 3, 256)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r'^`autoencoder.kind` is "taesb"; expected one of: iden'):
        make_autoencoder(AutoencoderConfig("taesb"), 3, 256)
    try:
        make_autoencoder(AutoencoderConfig("taesb"), 3, 256)
    except ConfigError as error:
        assert error.hint == "did you mean `taesd`?"


class Halved(Identity):
    """Every second pixel of every second row: an autoencoder of factor 2."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels, side // 2)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return super().encode(images[..., ::2, ::2])

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        images = super().decode(samples)
        return images.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def identity(self) -> dict[str, object]:
        return super().identity() | {"kind": "halved", "factor": 2}


def test_an_entry_from_outside_is_trained_in_planned_and_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AUTOENCODERS, "halved", Kind(lambda _, *of: Halved(*of), factor=2))
    config = named("halved")
    assert config == AutoencoderConfig("halved")
    assert sample_shape(config, 1, 8) == (1, 4, 4)
    of = Config(model=replace(tiny.MODEL, patch_size=2), autoencoder=config, data=DataConfig())
    state, *_ = build(of, ALONE)
    assert state.autoencoder.shape == (1, 4, 4)
    card = Card("toy", of.model, config, (1, 4, 4), ["a"])
    assert image_side(card) == 8
    make = ARCHITECTURES["gat"].generator
    save_snapshot(tmp_path / "snapshot", card, make(card.model, card.shape, 1), None)
    assert load(tmp_path / "snapshot").sample(2).shape == (2, 3, 8, 8)
