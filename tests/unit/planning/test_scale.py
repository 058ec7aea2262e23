from dataclasses import replace

import pytest

from scalegan.config.schema import Config, TrainConfig
from scalegan.planning.cost import Task
from scalegan.planning.plan import DEVICES, make_plan
from scalegan.planning.scale import NETWORK, NVLINK, REACHED, estimate, scale_table
from tests.support import tiny

TASK = Task((3, 8, 8), 3, 10_000, 8)
DEVICE = DEVICES["h200"]
CONFIG = tiny.config(batch_size=512, train=TrainConfig(duration="10 epochs"))


def test_one_gpu_sends_nothing() -> None:
    row = estimate(CONFIG, TASK, DEVICE, 1, "replicate")
    assert row.sent == row.communication == 0 and row.step == row.compute
    assert row.compute == pytest.approx(512 * row.plan.counts.step / (0.3 * DEVICE.float32))


@pytest.mark.parametrize(("gpus", "link"), [(8, NVLINK), (64, NETWORK)])
def test_replicated_gradients_go_around_a_ring_after_the_work(gpus: int, link: float) -> None:
    row = estimate(CONFIG, TASK, DEVICE, gpus, "replicate")
    both = 4 * (row.plan.counts.generator + row.plan.counts.discriminator)
    assert row.sent == pytest.approx(2 * (gpus - 1) / gpus * both)
    assert row.communication == pytest.approx(row.sent / (REACHED * link))
    assert row.step == row.compute + row.communication


def test_sharded_weights_travel_beside_the_work() -> None:
    row = estimate(CONFIG, TASK, DEVICE, 8, "shard")
    generator, discriminator = (4 * count for count in row.plan.counts[:2])
    # Gathered twice and five times without alignment; gradients reduced once.
    assert row.sent == pytest.approx(7 / 8 * (3 * generator + 6 * discriminator))
    assert row.step == max(row.compute, row.communication)


def test_shards_take_less_memory_the_more_there_are() -> None:
    def states(ranks: int, parallel: str) -> dict[str, int]:
        train = replace(CONFIG.train, parallel=parallel)
        return make_plan(replace(CONFIG, train=train), TASK, DEVICE, ranks).states

    whole, half, eighth = states(2, "replicate"), states(2, "shard"), states(8, "shard")
    for name in ("weights", "optimizer", "average"):
        assert half[name] == pytest.approx(whole[name] / 2)
        assert eighth[name] == pytest.approx(whole[name] / 8, abs=4)
    assert half["gathered"] == eighth["gathered"] < whole["weights"]
    assert states(1, "shard") == states(1, "replicate")


def test_the_table() -> None:
    lines = scale_table(CONFIG, TASK, "auto")
    assert "An estimate: nothing here is measured" in lines[0] and "H200" in lines[0]
    rows = [line.split()[:2] for line in lines[6:]]
    assert rows == [["1", "replicate"]] + [
        [str(gpus), parallel] for gpus in (8, 64, 512) for parallel in ("replicate", "shard")
    ]
    few: Config = replace(CONFIG, train=replace(CONFIG.train, batch_size=24))
    assert {line.split()[0] for line in scale_table(few, TASK, "h100")[6:]} == {"1", "8"}
