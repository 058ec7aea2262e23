from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scalegan.config import reading as configs
from scalegan.config.schema import AutoencoderConfig, Config, DataConfig, EveryConfig, TrainConfig
from scalegan.data.prepare import prepare
from scalegan.errors import ConfigError
from scalegan.planning.cost import Counts, Task
from scalegan.planning.plan import (
    DEVICES,
    Device,
    RunPlan,
    describe_plan,
    disk_bytes,
    make_plan,
    plan_lines,
    read_task,
    sample_shape,
)
from scalegan.train import checkpoint
from scalegan.train.throughput import images_per_second
from tests.support import tiny

TASK = Task((1, 8, 8), tiny.NUM_CLASSES, 1000, 8)
SMALL = Device("small", 100e6, 2e9, 1e9)


def config(batch_size: int = 16, duration: str = "10 epochs") -> Config:
    return tiny.config(
        batch_size=batch_size,
        train=TrainConfig(duration=duration),
        every=EveryConfig(checkpoint="100 steps"),
    )


def test_a_plan_by_hand() -> None:
    plan = make_plan(config(), TASK, SMALL)
    generator, discriminator, _ = plan.counts[:3]
    assert plan.states == {
        "weights": 4 * (generator + discriminator),
        "gathered": 0,
        "gradients": 4 * max(generator, discriminator),
        "optimizer": 8 * (generator + discriminator),
        "average": 4 * generator,
        "teacher": 0,
    }
    assert (plan.micro_batches, plan.images, plan.steps) == (1, 16, 625)
    assert plan.rate == pytest.approx(0.3 * 1e9 / plan.counts.step)
    assert plan.origin == "estimated: 30% of the peak"
    assert plan.disk == {
        "checkpoints": 3 * 4 * (4 * generator + 3 * discriminator),
        "snapshots": 7 * 4 * (generator + discriminator),  # six on the way and one at the end
    }


def test_checkpoints_are_as_large_as_they_are_planned(tmp_path: Path) -> None:
    from scalegan.train.step import train_step

    state = tiny.state()
    train_step(state, [[tiny.batch()]])  # makes the optimizers' running values
    path = checkpoint.save_checkpoint(tmp_path, state, ["a", "b", "c"])
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    plan = make_plan(config(), TASK, SMALL)
    assert size == pytest.approx(plan.disk["checkpoints"] / 3, rel=0.15)  # headers, step counters


def test_too_large_a_batch_is_cut_into_the_fewest_parts_that_fit() -> None:
    whole = make_plan(config(64), TASK, SMALL)
    tight = sum(whole.states.values()) + whole.activations.at(20)
    plan = make_plan(config(64), TASK, SMALL._replace(memory=tight / 0.9))
    assert plan.micro_batches > 1 and plan.micro_batches * plan.images == 64
    assert plan.memory <= tight
    coarser = 64 // (plan.micro_batches // 2)
    assert sum(plan.states.values()) + plan.activations.at(coarser) > tight
    # Then the generator runs in both turns.
    assert plan.rate < whole.rate
    assert f"set train.micro_batches = {plan.micro_batches}" in "\n".join(describe_plan(plan))


def test_too_small_a_device_is_said_to_be() -> None:
    plan = make_plan(config(), TASK, SMALL._replace(memory=1e5))
    assert plan.micro_batches == 0
    assert "not even one image fits" in describe_plan(plan)[-1]


def test_ranks_share_the_batch_and_average_gradients() -> None:
    one, four = (make_plan(config(), TASK, SMALL, ranks) for ranks in (1, 4))
    assert four.images == 4 and four.rate == pytest.approx(4 * one.rate)
    assert four.states["gradients"] == 2 * one.states["gradients"]
    with pytest.raises(ConfigError, match=r"^`train\.batch_size` 16 does not divide into 3 ranks$"):
        make_plan(config(), TASK, SMALL, 3)


def test_steps_are_measured_where_they_take_seconds() -> None:
    asked = []

    def measure(images: int) -> float:
        asked.append(images)
        return 50.0

    plan = make_plan(config(), TASK, SMALL, 2, measure)
    assert asked == [8] and plan.rate == 100
    assert plan.origin == "measured here by a few steps of one rank, times 2"
    slow = make_plan(config(), TASK, SMALL._replace(float32=1e5), 1, measure)
    assert asked == [8] and slow.origin.startswith("estimated")


def lines_of(plan: RunPlan) -> dict[str, str]:
    return {line[2:15].strip(): line[15:] for line in describe_plan(plan)[1:]}


def test_the_answer_in_words() -> None:
    lines = lines_of(make_plan(config(), TASK, DEVICES["h200"], 8))
    assert list(lines) == ["data", "parameters", "operations", "states", "activations", "batch",
                           "speed", "time", "disk"]  # fmt: skip
    assert lines["batch"].startswith("16 = 8 ranks x 1 micro-batches x 2 images")
    assert lines["time"] == "1 min for 625 steps (10 epochs)"


def test_the_data_says_what_it_is(tmp_path: Path) -> None:
    images = np.zeros((7, 8, 8, 3), np.uint8)
    images[..., 0] = 9
    np.savez(tmp_path / "data.npz", images, np.arange(7) % 2)
    data = DataConfig(f"npz:{tmp_path / 'data.npz'}")
    assert read_task(replace(config(), data=data)) == Task((3, 8, 8), 2, 7, 8)
    assert read_task(replace(config(), data=data), side=16) == Task((3, 16, 16), 2, 7, 16)


def test_prepared_shards_are_read_and_weighed(tmp_path: Path) -> None:
    images = np.arange(7 * 8 * 8 * 3, dtype=np.uint8).reshape(7, 8, 8, 3)
    np.savez(tmp_path / "data.npz", images, np.arange(7) % 2)
    prepare(f"npz:{tmp_path / 'data.npz'}", tmp_path / "shards", workers=1, shard_rows=4)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "shards").glob("shard-*/*"))
    on_shards = replace(config(), data=DataConfig("", shards=str(tmp_path / "shards")))
    task = read_task(on_shards)
    assert task == Task((3, 8, 8), 2, 7, 8, data_bytes=on_disk) and on_disk > images.nbytes
    plan = make_plan(on_shards, task, SMALL)
    assert plan.disk["shards (there)"] == on_disk


def test_what_is_not_prepared_yet_is_estimated() -> None:
    recipe = configs.resolve(configs.read("gat-s2-imagenet256"))
    counts = Counts(*[1] * len(Counts._fields))
    disk = disk_bytes(recipe, Task((4, 32, 32), 10, 100, 256), counts, steps=10)
    assert disk["latents"] == 100 * 2 * 2 * 4 * 32 * 32  # mean and deviation, float16
    assert disk["images"] == 100 * 1.75 * 256**2  # its teacher looks at them


def test_absent_data_is_assumed_to_be_imagenet_and_said_to_be() -> None:
    absent = replace(
        config(),
        data=DataConfig("npz:nowhere.npz"),
        autoencoder=AutoencoderConfig(kind="sd-vae-ft-mse"),
    )
    task = read_task(absent)
    assert (task.shape, task.num_classes, task.num_rows) == ((4, 32, 32), 1000, 1_281_167)
    assert "assumed" in task.note
    told = read_task(absent, rows=50, classes=2, side=128)
    assert told == Task((4, 16, 16), 2, 50, 128)


@pytest.mark.parametrize(
    ("kind", "shape"), [("sd-vae-ft-ema", (4, 8, 8)), ("taesd", (4, 8, 8)), ("taef2", (32, 8, 8))]
)
def test_latents_of_autoencoders_that_are_not_here(kind: str, shape: tuple[int, ...]) -> None:
    assert sample_shape(AutoencoderConfig(kind=kind), 3, 64) == shape


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^images of side 36 do not fit `taesd`, factor 8$"):
        sample_shape(AutoencoderConfig(kind="taesd"), 3, 36)


def test_here_a_few_steps_are_taken() -> None:
    lines = plan_lines(config(), TASK, "cpu", 1, images_per_second)
    assert "measured here by a few steps" in lines[7]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"which is neither here nor known$"):
        plan_lines(config(), TASK, device, 1, images_per_second)


def test_b2_on_eight_h200_fits_whole() -> None:
    recipe = configs.resolve(configs.read("gat-b2-imagenet256"))
    plan = make_plan(recipe, Task((4, 32, 32), 1000, 1_281_167, 256), DEVICES["h200"], 8)
    assert plan.steps == 100_092  # 40 epochs at batch 512: about 100 k
    assert plan.micro_batches == 1 and plan.memory < 0.9 * 141e9
