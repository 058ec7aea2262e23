from pathlib import Path

import numpy as np
import pytest
import torch

from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Field, ImageSet
from scalegan.evaluation.evaluate import open_reference
from scalegan.evaluation.images import ImageOptions
from scalegan.evaluation.measure import fields_of
from scalegan.evaluation.statistics_file import is_statistics, load_statistics, save_statistics
from scalegan.evaluation.tables import METRICS
from tests.unit.evaluation.test_measure import ALONE, Colors, images, see

FIELDS = {Field.MOMENTS, Field.SPATIAL, Field.BANK, Field.LABELS, Field.HASHES}


def saved(path: Path, fields: set[Field] = FIELDS) -> ImageSet:
    found = see(images(40), fields, Colors(), kind="test")
    save_statistics(path, found, Colors())
    return found


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    seen = saved(path)
    assert is_statistics(str(path))
    side, about = load_statistics(path, Colors())
    expected = seen.features["colors"]
    assert side.moments and expected.moments and side.moments.count == side.count == 40
    assert torch.equal(side.moments.covariance, expected.moments.covariance)
    for name in ("bank", "labels", "hashes"):
        assert torch.equal(getattr(side, name), getattr(expected, name))
    assert about["digest"] == seen.about["digest"], "as if the images were there"
    assert side.spatial is not None


def test_without_a_bank_the_file_does_not_grow_with_the_images(tmp_path: Path) -> None:
    saved(tmp_path / "r.npz", {Field.MOMENTS})
    side, _ = load_statistics(tmp_path / "r.npz", Colors())
    assert side.moments and side.bank is side.labels is side.hashes is None


def test_statistics_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    saved(path)
    with np.load(path) as archive:
        values = dict(archive)
    values["protocol"] = np.array(str(values["protocol"]).replace('"format": 2', '"format": 1'))
    np.savez(path, **values)
    with pytest.raises(DataError, match="has format 1; this version reads 2"):
        load_statistics(path, Colors())


def test_statistics_of_another_network_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "r.npz")
    with pytest.raises(ConfigError, match="other features: their `digest` is 'ab12', not 'ff'"):
        load_statistics(tmp_path / "r.npz", Colors(digest="ff"))


def test_files_of_adm_are_for_the_standard_network(tmp_path: Path) -> None:
    path = tmp_path / "adm.npz"
    seen = see(images(40), FIELDS, Colors()).features["colors"]
    assert seen.moments and seen.spatial
    some = images(10, 1)
    values = {"mu": seen.moments.mean, "sigma": seen.moments.covariance}
    values |= {"mu_s": seen.spatial.mean, "sigma_s": seen.spatial.covariance}
    np.savez(path, some.permute(0, 2, 3, 1).numpy(), **{k: v.numpy() for k, v in values.items()})
    with pytest.raises(ConfigError, match="does not say which network"):
        load_statistics(path, Colors())
    network = Colors(standard=True)
    fields = fields_of([METRICS["fid"], METRICS["pr"]], "real")
    found = open_reference(str(path), ImageOptions(), {"colors": network}, fields, ALONE)
    side = found.features["colors"]
    assert side.moments and torch.equal(side.moments.mean, seen.moments.mean)
    assert side.bank is not None and len(side.bank) == 10, "of its images, for precision"


@pytest.mark.parametrize("change", ["shape", "nan", "lack"])
def test_damage_is_a_sentence(change: str, tmp_path: Path) -> None:
    mu, sigma = np.zeros(3), np.eye(3)
    values = {"mu": mu, "sigma": sigma}
    if change == "shape":
        values["sigma"] = np.eye(2)
    elif change == "nan":
        values["mu"] = mu * np.nan
    else:
        del values["sigma"]
    np.savez(tmp_path / "r.npz", **values)
    with pytest.raises(DataError, match="no usable file of statistics"):
        load_statistics(tmp_path / "r.npz", Colors(standard=True))
