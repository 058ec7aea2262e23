import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from scalegan.errors import CheckpointError, ConfigError
from scalegan.features import inception as module
from scalegan.features.inception import NAMES, Inception, Network, inception
from scalegan.features.resize import clean_bicubic, halfpixel_bilinear


@functools.cache
def weights() -> dict[str, Tensor]:
    """Random ones under the published names, with the counts that the published file has."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = Network().state_dict()
    counts = {name.replace("weight", "num_batches_tracked"): torch.tensor(0)
              for name in tensors if name.endswith("bn.weight")}  # fmt: skip
    return {**tensors, **counts}


@functools.cache
def network() -> Inception:
    return Inception(weights())


def images(count: int, side: int = 32) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), generator=rng).to(torch.uint8)


def test_shapes_and_names() -> None:
    assert len(weights()) == 566
    features = network()(images(2))
    assert features.pooled.shape == (2, 2048) and features.pooled.dtype == torch.float32
    assert features.spatial is not None and features.spatial.shape == (2, 2023)
    assert features.logits is not None and features.logits.shape == (2, 1008)
    without_bias = features.pooled @ weights()["fc.weight"].T
    assert torch.allclose(features.logits, without_bias, rtol=1e-4, atol=1e-5)


def test_images_do_not_know_of_each_other() -> None:
    several = images(3)
    together = network()(several).pooled
    alone = torch.cat([network()(part).pooled for part in several.split(1)])
    assert (together - alone).abs().max() <= 1e-6 * together.abs().max()


OTHERS = [
    ("inception-clean", clean_bicubic, 128),
    ("inception-pytorch-fid", halfpixel_bilinear, 127.5),
]


@pytest.mark.parametrize(("name", "resize", "middle"), OTHERS)
def test_other_tools_show_it_other_images(name: str, resize: Callable, middle: float) -> None:
    seen: list[Tensor] = []
    for other in (Inception(weights()), Inception(weights(), handling=name)):
        other.network.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        other(images(1))
    assert torch.equal(seen[1], (resize(images(1), 299) - middle) / middle)
    assert (seen[0] - seen[1]).abs().max() > 0.1
    differing = {k for k, v in other.identity().items() if v != network().identity()[k]}
    assert differing == {"kind", "resize"}


def test_autocast_around_it_changes_nothing() -> None:
    plain = network()(images(1))
    with torch.autocast("cpu", torch.bfloat16):
        inside = network()(images(1))
    assert torch.equal(plain.pooled, inside.pooled) and torch.equal(plain.logits, inside.logits)


def test_a_file_of_the_published_layout(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "mine.pth")
    save_file(weights(), tmp_path / "mine.safetensors")
    identities = []
    for kind in ("pth", "safetensors"):
        loaded = inception("inception", str(tmp_path / f"mine.{kind}"))
        assert torch.equal(loaded(images(1)).pooled, network()(images(1)).pooled)
        assert not loaded.is_published, "other weights must not be called FID"
        identities.append(loaded.identity())
    assert len(identities[0]["weights"]) == 64
    assert identities[0]["weights"] != identities[1]["weights"]
    assert identities[0]["resize"] == "tf1-bilinear 299"


def test_a_pickle_that_runs_something_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": print}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="does not load as plain tensors"):
        inception("inception", str(tmp_path / "bad.pth"))


def test_weights_of_another_network() -> None:
    cases = {
        r"has \(1,\) for `AuxLogits\.fc\.weight`; expected none": {
            "AuxLogits.fc.weight": torch.zeros(1)
        },
        r"FID's Inception has \(1000,\) for `fc\.bias`; expected \(1008,\)": {
            "fc.bias": torch.zeros(1000)
        },
    }
    for message, change in cases.items():
        with pytest.raises(CheckpointError, match=message):
            Inception({**weights(), **change})
    with pytest.raises(CheckpointError, match=r"has no tensor for `fc\.bias`"):
        Inception({name: value for name, value in weights().items() if name != "fc.bias"})


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "folders", lambda: [tmp_path / "ours", tmp_path / "theirs"])
    with pytest.raises(ConfigError, match="which is not on this machine") as error:
        inception("inception")
    assert f"put it into `{tmp_path / 'ours'}`" in error.value.hint
    (tmp_path / "theirs").mkdir()
    torch.save(weights(), tmp_path / "theirs" / NAMES[1])
    with pytest.raises(ConfigError, match="damaged or another file: its SHA-256 begins with"):
        inception("inception")
    monkeypatch.setattr(module, "DIGEST", module.digest(tmp_path / "theirs" / NAMES[1])[:8])
    assert inception("inception").is_published
    assert not inception("inception-clean").is_published, "clean-fid's number is another metric"
    with pytest.raises(ConfigError, match="there is no weight file `nowhere`"):
        inception("inception", "nowhere")
