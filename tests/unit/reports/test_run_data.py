"""What a report reads of a run's folder: how far the run is, and how long it took."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from scalegan.config import reading as configs
from scalegan.config.schema import Config
from scalegan.errors import CheckpointError
from scalegan.reports.run_data import RunData, read_run_data
from scalegan.runtime.log import Log
from scalegan.train.clock import NAME as CLOCK


@pytest.fixture
def config() -> Config:
    config = configs.read("digits")
    return replace(config, train=replace(config.train, batch_size=16, discriminator_turns=1))


def read(run: Path, config: Config, duration: str, seconds: float = 4.5) -> RunData:
    """A run without a snapshot at step 30 whose clock showed some seconds at step 20."""
    config = replace(config, train=replace(config.train, duration=duration))
    log = Log(run, is_first=True, resumed_step=0)
    (run / "config.toml").write_text(configs.to_toml(config))
    log.record(30, 480, {})
    (run / CLOCK).write_text(json.dumps({"step": 20, "seconds": seconds}) + "\n")
    return read_run_data(run, run / "report.html", "cpu")


@pytest.mark.parametrize(
    ("duration", "total", "unfinished"),
    [
        ("60 steps", 60, "30 of 60 steps"),
        ("30 steps", 30, ""),
        ("960 images", 60, "30 of 60 steps"),
        ("5 epochs", None, ""),
        ("3 minutes", None, "4 s of 3 minutes"),
        ("4 seconds", None, ""),
    ],
)
def test_how_far_a_run_is(
    duration: str, total: int | None, unfinished: str, config: Config, tmp_path: Path
) -> None:
    data = read(tmp_path, config, duration)
    assert (data.step, data.total_steps, data.unfinished) == (30, total, unfinished)


def test_time_is_that_of_the_clock_and_not_of_files(config: Config, tmp_path: Path) -> None:
    read(tmp_path, config, "60 steps")
    (tmp_path / "environment.json").write_text('[{"time": "2026-01-01T00:00:00+0000"}]')
    os.utime(tmp_path / "metrics.jsonl", (2e9, 2e9))  # as after a copy
    data = read_run_data(tmp_path, tmp_path / "report.html", "cpu")
    assert data.seconds == 4.5 and data.images_per_second == pytest.approx(20 * 16 / 4.5)
    (tmp_path / CLOCK).unlink()
    data = read_run_data(tmp_path, tmp_path / "report.html", "cpu")
    assert data.seconds == data.images_per_second == 0


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"numbers": 1}'])
def test_records_that_cannot_be_read_are_left_out(
    text: str, config: Config, tmp_path: Path
) -> None:
    for name in ("environment.json", "evaluation.json"):
        (tmp_path / name).write_text(text)
    data = read(tmp_path, config, "60 steps")
    assert (data.starts, data.recorded) == ([], [])


def test_links_are_seen_from_the_page(config: Config, tmp_path: Path) -> None:
    data = replace(read(tmp_path / "run", config, "60 steps"), page=tmp_path / "pages" / "a.html")
    assert data.link(tmp_path / "run" / "metrics.jsonl") == "../run/metrics.jsonl"
    assert data.link(tmp_path / "run" / "nothing.png") == ""


def test_a_folder_that_is_neither_run_nor_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no snapshot"):
        read_run_data(tmp_path, tmp_path / "report.html", "cpu")
