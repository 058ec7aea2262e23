"""What all tests of faults share: a nursery of processes, a small data set."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.nursery import Nursery
from tests.support.small import Small


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Runs on 24 images in batches of 4: an epoch ends every six steps."""
    path = tmp_path_factory.mktemp("small") / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, rng.integers(0, 256, (24, 8, 8), dtype=np.uint8), np.arange(24) % 3)
    return Small(path)
