from pathlib import Path

import pytest

from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError
from scalegan.inference.snapshot import Card, build_discriminator, build_generator, save_snapshot
from scalegan.reports.summary import summarize
from tests.support import tiny
from tests.unit.models.test_gat import count


@pytest.mark.parametrize("features", [0, 5])
def test_sizes_and_origin_of_a_snapshot(tmp_path: Path, features: int) -> None:
    names = [f"class-{i}" for i in range(14)]
    card = Card("mine", tiny.MODEL, AutoencoderConfig(), (1, 8, 8), names, features, 1234, 78960, 5)
    generator, discriminator = build_generator(card), build_discriminator(card)
    save_snapshot(tmp_path / "snapshot", card, generator, discriminator)
    text = "\n".join(summarize(tmp_path / "snapshot"))
    assert "1,234 steps, 78,960 images, seed 5" in text
    assert "14: class-0" in text and "class-11, ..." in text and "class-12" not in text
    assert f"generator      {count(generator):,} parameters" in text
    assert f"discriminator  {count(discriminator):,} parameters" in text


def test_a_folder_that_is_neither_run_nor_snapshot(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no snapshot$"):
        summarize(tmp_path)
