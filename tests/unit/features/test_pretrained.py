"""Networks that others trained, as tiny random ones in their libraries' own formats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from scalegan.config.objective import TEACHER_WIDTHS
from scalegan.errors import ConfigError
from scalegan.features.pretrained import (
    VARIANTS,
    dinov2,
    dinov2_features,
    preprocessing,
    resample_positions,
    timm_model,
    transformers_model,
    untrained_dinov2,
)
from scalegan.features.tables import TEACHERS
from scalegan.interfaces import FeatureNetwork
from tests.support import teachers

CPU = torch.device("cpu")
SMALL = [("dinov2-s", False), ("dinov2-s-reg", True)]


@pytest.mark.parametrize(("name", "has_registers"), SMALL)
def test_at_the_native_side_it_is_the_library_s_forward(
    name: str, has_registers: bool, tmp_path: Path
) -> None:
    teacher = TEACHERS[name](str(teachers.folder(tmp_path, has_registers)), CPU, 70)
    images = torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        expected = teachers.network(has_registers)(images).last_hidden_state
    keep = [0, *range(1 + teachers.REGISTERS * has_registers, expected.shape[1])]
    assert teacher(images).shape == (2, 1 + 25, 16)
    assert torch.equal(teacher(images), expected[:, keep])


@pytest.mark.parametrize(("name", "has_registers"), SMALL)
def test_another_side_has_its_positions_resampled_once(
    name: str, has_registers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = TEACHERS[name](str(teachers.folder(tmp_path, has_registers)), CPU, 42)
    images = torch.randn(2, 3, 42, 42)
    own = teachers.network(has_registers)
    table = resample_positions(own.embeddings.position_embeddings.detach(), 3)
    own.embeddings.position_embeddings = torch.nn.Parameter(table)
    with torch.no_grad():
        expected = own(images).last_hidden_state

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("interpolated inside the forward")

    monkeypatch.setattr(torch.nn.functional, "interpolate", refuse)
    features = teacher(images)
    assert features.shape == (2, 1 + 9, 16)
    torch.testing.assert_close(features[:, :1], expected[:, :1], rtol=0, atol=0)
    torch.testing.assert_close(features[:, 1:], expected[:, -9:], rtol=0, atol=0)


def cubic(x: float, a: float = -0.5) -> float:
    """Keys' kernel (1981), with the slope that antialiased resizing uses."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def weights(old: int, new: int) -> np.ndarray:
    """Row i: what each old sample adds to new sample i; the kernel is as wide as a new sample."""
    scale = old / new
    stretch = max(scale, 1.0)
    matrix = np.zeros((new, old))
    for i in range(new):
        center = (i + 0.5) * scale
        for j in range(old):
            matrix[i, j] = cubic((j + 0.5 - center) / stretch)
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("old", "new"), [(37, 16), (5, 3), (8, 8), (4, 7)])
def test_positions_against_plain_sums(old: int, new: int) -> None:
    table = torch.randn(1, 1 + old**2, 6, generator=torch.Generator().manual_seed(0))
    found = resample_positions(table, new)
    maps = table[0, 1:].double().numpy().reshape(old, old, 6)
    expected = np.einsum("ir,jc,rce->ije", weights(old, new), weights(old, new), maps)
    torch.testing.assert_close(found[0, 0], table[0, 0], rtol=0, atol=0)
    torch.testing.assert_close(
        found[0, 1:].double(), torch.from_numpy(expected.reshape(new**2, 6)), rtol=0, atol=2e-6
    )


def test_frozen_in_float32_or_the_autocast_around_it(tmp_path: Path) -> None:
    teacher = dinov2("dinov2-s", str(teachers.folder(tmp_path)), CPU, 70)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert {parameter.dtype for parameter in teacher.network.parameters()} == {torch.float32}
    assert not teacher.network.training
    images = torch.randn(1, 3, 70, 70, requires_grad=True)
    exact = teacher(images)
    assert not exact.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        rounded = teacher(images)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)


def test_half_precision_on_the_disk_becomes_float32(tmp_path: Path) -> None:
    teachers.network().to(torch.bfloat16).save_pretrained(tmp_path)
    network = dinov2("dinov2-b", str(tmp_path), CPU, 70).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_digest_is_of_the_weights_alone(tmp_path: Path) -> None:
    first, same, other = (
        dinov2("dinov2-s", str(teachers.folder(tmp_path / str(i), seed=seed)), CPU, side)
        for i, (seed, side) in enumerate([(0, 70), (0, 42), (1, 70)])
    )
    assert len(first.digest) == 64
    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize("name", VARIANTS)
def test_published_sizes(name: str) -> None:
    """ViT-S, B and L have 22, 86 and 304 million parameters (DINOv2's model card)."""
    teacher = untrained_dinov2(name, "", torch.device("meta"))
    count = sum(parameter.numel() for parameter in teacher.network.parameters())
    millions = (count + (37**2 - 16**2) * teacher.width) / 1e6  # with the table as it came
    assert teacher.width == TEACHER_WIDTHS[name]
    assert millions == pytest.approx({384: 22, 768: 86, 1024: 304}[teacher.width], abs=1)
    with torch.device("meta"):
        assert teacher(torch.empty(2, 3, 224, 224)).shape == (2, 257, teacher.width)


def test_an_untrained_one_has_the_sizes_of_the_folder(tmp_path: Path) -> None:
    path = str(teachers.folder(tmp_path, has_registers=True))
    teacher = untrained_dinov2("dinov2-b-reg", path, CPU, 28)
    assert teacher(torch.randn(1, 3, 28, 28)).shape == (1, 5, 16)


def message(name: str, path: str, side: int = 70) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        TEACHERS[name](path, CPU, side)
    return str(caught.value), caught.value.hint


def test_mistakes_get_a_sentence(tmp_path: Path) -> None:
    path = str(teachers.folder(tmp_path / "plain"))
    assert message("dinov2-s", str(tmp_path))[0] == (
        f"`objective.alignment.teacher_path` is `{tmp_path}`, which has no `config.json`"
    )
    assert message("dinov2-s-reg", path)[0] == (
        f"teacher `dinov2-s-reg` is a `dinov2_with_registers` but `{path}` holds a `dinov2`"
    )
    assert message("dinov2-s", path, 50)[0] == (
        "`objective.alignment.side` is 50; the teacher's patches need a multiple of 14"
    )


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    path = teachers.folder(tmp_path)
    file = path / "model.safetensors"
    tensors = load_file(file)
    lost = "encoder.layer.1.norm2.weight"
    save_file({key: value for key, value in tensors.items() if key != lost}, file, {"format": "pt"})
    assert message("dinov2-s", str(path))[0] == (
        f"the weights of teacher `dinov2-s` in `{path}` lack 1 tensors, `{lost}` first"
    )
    file.write_bytes(file.read_bytes()[:1000])
    assert "cannot be loaded" in message("dinov2-s", str(path))[0]
    file.unlink()
    assert "cannot be loaded" in message("dinov2-s", str(path))[0]
    (path / "config.json").write_text("{")
    assert "is not usable" in message("dinov2-s", str(path))[0]
    (path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "holds a `bert`" in message("dinov2-s", str(path))[0]


def test_without_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(where: str, **options: Any) -> None:
        tried.append(options["local_files_only"])
        raise OSError("no network")

    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    text, hint = message("dinov2-b", "")
    assert text == (
        "teacher `dinov2-b` is neither in this machine's cache nor could it be fetched from "
        "`facebook/dinov2-base` on the hub"
    )
    assert "hf download facebook/dinov2-base --local-dir FOLDER" in hint
    assert tried == [True, False]  # the cache first: a look-up without network takes long


def images(side: int = 8) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, side, side), generator=rng).to(torch.uint8)


def vit(path: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=8)).save_pretrained(
        path
    )
    said = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (path / "preprocessor_config.json").write_text(json.dumps(said | {"resample": 2}))
    return path


def test_a_transformer_sees_what_its_config_states(tmp_path: Path) -> None:
    network = transformers_model(str(vit(tmp_path)), CPU)
    assert isinstance(network, FeatureNetwork)
    found = network(images(16)).pooled
    assert found.shape == (3, 16)
    own = ViTModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = own((images(16) / 255 - 0.5) / 0.25).pooler_output
    assert torch.allclose(found, expected, atol=1e-6)
    about = network.identity()
    assert about["resize"] == "bilinear with antialias to 16, stretched"
    assert about["label"].startswith("transformers vit ") and len(about["digest"]) == 64
    assert network(images(8)).pooled.shape == (3, 16), "other sides are resized"


def test_a_convolutional_one_is_pooled(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    network = transformers_model(str(tmp_path), CPU)
    assert network(images(32)).pooled.shape == (3, 8)
    assert network.preprocessing == preprocessing(tmp_path, 224)


def test_what_is_no_image_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no `config\.json`"):
        transformers_model(str(tmp_path), CPU)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="does not take images"):
        transformers_model(str(tmp_path / "bert"), CPU)
    (tmp_path / "bert" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        transformers_model(str(tmp_path / "bert"), CPU)
    (tmp_path / "preprocessor_config.json").write_text('{"size": "large"}')
    with pytest.raises(ConfigError, match="is not usable"):
        preprocessing(tmp_path, 224)


def test_dinov2_features_are_the_class_token_of_a_stretched_image(tmp_path: Path) -> None:
    path = str(teachers.folder(tmp_path / "s"))
    network = dinov2_features("dinov2-s", path, CPU)
    assert isinstance(network, FeatureNetwork)
    found = network(images(224)).pooled
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    tokens = dinov2("dinov2-s", path, CPU)((images(224) / 255 - mean) / std)
    assert torch.allclose(found, tokens[:, 0], atol=1e-6)
    assert network(images(20)).pooled.shape == found.shape
    assert "224" in network.identity()["resize"] and network.identity()["digest"]


def test_timm_says_what_is_missing() -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="needs timm") as error:
            timm_model("resnet10t", CPU)
        assert "scalegan[timm]" in error.value.hint
        return
    with pytest.raises(ConfigError, match="cannot be loaded"):
        timm_model("no_such_model", CPU)
