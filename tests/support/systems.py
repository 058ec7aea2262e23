"""The four architectures at their smallest: configs whose runs take a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from scalegan.config import reading as configs
from scalegan.config.models import (
    BigGANConfig,
    GANsformerConfig,
    GATConfig,
    LadaGANConfig,
    ModelConfig,
)
from scalegan.config.schema import (
    AutoencoderConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    EveryConfig,
)

MODELS: dict[str, ModelConfig] = {
    "gat": GATConfig(
        width=16, depth=2, num_levels=2, num_heads=2, patch_size=4, z_width=8, label_width=12
    ),
    "ladagan": LadaGANConfig(
        z_width=8, base=4, widths=(16, 8), num_heads=(2, 2), hidden_widths=(8, 8),
        encoder_widths=(8,), discriminator_heads=2, discriminator_hidden=8, out_widths=(8, 8),
    ),
    "biggan": BigGANConfig(channels=2, z_width=12, shared_width=4),
    "gansformer": GANsformerConfig(
        num_components=2, latent_width=8, channel_base=64, channel_max=8, mapping_depth=2,
        attention="simplex",
    ),
}  # fmt: skip
RECIPES = {"gat": "digits"} | {name: f"digits-{name}" for name in MODELS if name != "gat"}
NAMES = list(MODELS)
SCALES = "gat at scales"
"""GAT's generator with CAT's discriminator, a setting of the objective."""


def config(name: str, data: DataConfig, steps: int = 4, **parts: Any) -> Config:
    """The system's digits recipe at its smallest; `parts` replace whole sections."""
    of = configs.read(RECIPES["gat" if name == SCALES else name])
    if name == SCALES:
        scales = replace(of.objective, supervision="scales", level_consistency=0.1)
        name, of = "gat", replace(of, objective=scales)
    train = replace(of.train, duration=f"{steps} steps", batch_size=8, threads=1, ema_start=0)
    every = EveryConfig("2 steps", "1000 steps", "", "1000 steps")
    whole = replace(of, model=MODELS[name], data=data, train=train, every=every,
                    evaluate=EvaluateConfig(num_images=0))  # fmt: skip
    return configs.resolve(replace(whole, **parts))


def save_images(path: Path, side: int = 8, channels: int = 1, count: int = 24) -> DataConfig:
    """Random images of three classes, as a source."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    np.savez(path, images, np.arange(count) % 3)
    return DataConfig(f"npz:{path}")


def latents(folder: Path) -> tuple[DataConfig, AutoencoderConfig]:
    """Shards of 8x8 latents with 3 channels, and the autoencoder that they were made by."""
    from scalegan.data.prepare import prepare
    from tests.support import latents as saved

    about = saved.config(saved.save_kl(folder / "autoencoder"))
    source = save_images(folder / "images.npz", side=32, channels=3)
    prepare(source.source, folder / "shards", autoencoder=about, workers=1)
    return DataConfig("", shards=str(folder / "shards")), about
