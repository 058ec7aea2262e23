"""Networks that others trained, as tiny random ones in their libraries' own formats."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from scalegan.errors import ConfigError
from scalegan.features.dinov2 import dinov2, dinov2_features
from scalegan.features.pretrained import preprocessing, transformers_model
from scalegan.features.timm_model import timm_model
from scalegan.interfaces import FeatureNetwork
from tests.support import teachers

CPU = torch.device("cpu")


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
    assert network.about == preprocessing(tmp_path, 224)


def test_what_is_no_image_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no `config\.json`"):
        transformers_model(str(tmp_path), CPU)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="does not look at images"):
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
    with pytest.raises(ConfigError, match="cannot be had"):
        timm_model("no_such_model", CPU)
