"""Where autoencoders come from, and every way in which a folder can be wrong."""

import json
from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.files import WEIGHTS, find, load_network
from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import load_tensors, save_tensors
from tests.support.latents import save_kl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_kl(tmp_path / "kl")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_the_hubs_cache_is_enough(tmp_path: Path) -> None:
    revision = "0" * 40
    cached = tmp_path / "cache" / "models--stabilityai--sd-vae-ft-mse"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(revision)
    save_kl(cached / "snapshots" / revision)
    assert (
        find(AutoencoderConfig("sd-vae-ft-mse"), "stabilityai/sd-vae-ft-mse") / WEIGHTS
    ).is_file()


def test_a_local_copy_of_a_hub_name_needs_no_hub(folder: Path) -> None:
    assert find(AutoencoderConfig("sd-vae-ft-mse", str(folder))) == folder


def test_a_path_is_needed_and_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`autoencoder.kind` `kl` needs `autoencoder.path`$"):
        make_autoencoder(AutoencoderConfig("kl"), 3, 64)
    with pytest.raises(ConfigError, match=r"^there is no folder `.*none`; it is the"):
        find(AutoencoderConfig("kl", str(tmp_path / "none")))


def refusal(folder: Path, name: str = "AutoencoderKL") -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_network(folder, name)
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no autoencoder: there is no `config.json`" in str(refusal(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"_class_name": "UNet2DModel"}'])
def test_another_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert str(folder) in str(refusal(folder))


def test_the_other_kind_is_refused(folder: Path) -> None:
    error = refusal(folder, "AutoencoderTiny")
    assert str(error) == f"`{folder}` holds `AutoencoderKL`; expected `AutoencoderTiny`"
    assert error.hint == "set `autoencoder.kind` to `kl`"


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("sprung", "w"))


def test_pickles_are_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / WEIGHTS).unlink()
    torch.save(Trap(), folder / "diffusion_pytorch_model.bin")
    error = refusal(folder)
    assert str(error) == f"`{folder}` has no `{WEIGHTS}` but pickled weights alone"
    assert not (folder / "sprung").exists()


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert str(refusal(folder)) == f"`{folder}` has no `{WEIGHTS}`"


def test_damaged_weights_are_refused(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    assert "cannot be loaded as `AutoencoderKL`" in str(refusal(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [("lacks", "lacks 1 tensor"), ("unused", "has unused 1 tensor"), ("shape", "cannot be loaded")],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: str, message: str) -> None:
    tensors = load_tensors(folder / WEIGHTS)
    if change == "lacks":
        del tensors["encoder.conv_in.bias"]
    elif change == "unused":
        tensors["side.branch"] = torch.zeros(2)
    else:
        tensors["encoder.conv_in.bias"] = torch.zeros(2)
    save_tensors(tensors, folder / WEIGHTS)
    assert message in str(refusal(folder))


def test_a_config_that_does_not_build_is_refused(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text()) | {"norm_num_groups": 3}
    (folder / "config.json").write_text(json.dumps(values))
    assert "cannot be loaded as `AutoencoderKL`: " in str(refusal(folder))
