"""Every recipe resolves, round-trips and builds."""

import tomllib

import pytest
import torch

from scalegan.config import reading as configs
from scalegan.train.build import build_networks


@pytest.mark.parametrize("name", configs.recipes())
def test_recipe(name: str) -> None:
    config = configs.resolve(configs.read(name))
    assert configs.parse(tomllib.loads(configs.to_toml(config))) == config
    assert config.name == name
    side = int(name[-3:]) if config.model.architecture != "gat" and name[-3:].isdigit() else 32
    shape = (1, 8, 8) if name.startswith("digits-") else (3, side, side)
    shape = (4, 32, 32) if config.model.architecture == "gat" else shape
    with torch.device("meta"):
        networks = build_networks(config, shape, 10 if config.data.conditional else 0)
    assert all(sum(p.numel() for p in network.parameters()) > 1000 for network in networks)


@pytest.mark.parametrize("name", configs.recipes())
def test_recipe_opens_with_its_command(name: str) -> None:
    head = (configs.RECIPES / f"{name}.toml").read_text().splitlines()[:6]
    assert any("Run:" in line and f"train {name}" in line for line in head)
    assert any("Expect:" in line for line in head)
