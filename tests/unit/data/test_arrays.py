from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.data.arrays import ArrayWriter, headers, read_images, read_labels
from scalegan.errors import DataError


def images(count: int, side: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, side, side), generator=rng).to(torch.uint8)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 20), side=st.integers(1, 5), batch=st.integers(1, 9))
def test_what_is_written_in_parts_numpy_reads(
    count: int, side: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    inputs, labels = images(count, side), torch.arange(count) % 3
    writer = ArrayWriter(path, count, side)
    for part in inputs.split(batch):
        writer.append(part)
    writer.close(labels)
    with np.load(path) as archive:
        assert np.array_equal(archive["arr_0"], inputs.permute(0, 2, 3, 1).numpy())
        assert np.array_equal(archive["arr_1"], labels.numpy())
    assert torch.equal(torch.cat(list(read_images(path, batch))), inputs)
    assert torch.equal(read_labels(path, count), labels)  # type: ignore[arg-type]


def test_gray_is_repeated_and_labels_may_be_absent(tmp_path: Path) -> None:
    gray = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    np.savez_compressed(tmp_path / "a.npz", gray)
    (found,) = read_images(tmp_path / "a.npz", 8)
    assert found.shape == (2, 3, 4, 4) and (found == found[:, :1]).all()
    assert read_labels(tmp_path / "a.npz", 2) is None
    assert headers(tmp_path / "a.npz")["arr_0"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 5, 3), np.uint8), "expected squares"),
        (np.zeros((2, 4, 4, 2), np.uint8), "1 or 3 channels"),
        (np.zeros((2, 4, 4, 3), np.float32), "lacks `arr_0`, uint8"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(DataError, match=message):
        list(read_images(tmp_path / "a.npz", 8))


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="there is no file"):
        headers(path)
    np.savez(path, images(4, 8).permute(0, 2, 3, 1).numpy(), np.array([0, 1, -1, 0]))
    with pytest.raises(DataError, match="one class index"):
        read_labels(path, 4)
    whole = bytearray(path.read_bytes())
    whole[300] ^= 255  # within the images: the archive's checksum finds it
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"cannot be read|not a readable"):
        list(read_images(path, 2))
    path.write_bytes(whole[:100])
    with pytest.raises(DataError, match="not a readable"):
        headers(path)
    with pytest.raises(DataError, match="fewer came"):
        ArrayWriter(tmp_path / "b.npz", 3, 8).close(torch.zeros(3).long())
