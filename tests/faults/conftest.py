"""What all tests of faults share: a server that forks runs, and a small data set."""

import numpy as np
import pytest

from tests.support.fork_server import ForkServer, fork_server
from tests.support.runs import SmallRuns


@pytest.fixture(scope="session")
def server() -> ForkServer:
    return fork_server()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRuns:
    """Runs on 24 images in batches of 4: an epoch ends every six steps."""
    path = tmp_path_factory.mktemp("small") / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, rng.integers(0, 256, (24, 8, 8), dtype=np.uint8), np.arange(24) % 3)
    return SmallRuns(path)
