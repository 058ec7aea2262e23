"""A run that is aligned with a DINOv2, through the real command line."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support import teachers
from tests.support.fork_server import fork_server
from tests.support.runs import hashes, train

ALIGNED = ["--objective.alignment.weight", "0.5", "--objective.alignment.side", "28"]


def options(folder: Path, name: str = "dinov2-s-reg") -> list[str]:
    teacher = ["--objective.alignment.teacher", name]
    return [*ALIGNED, *teacher, "--objective.alignment.teacher-path", str(folder)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fork_server().preload(
        "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers"
    )
    return teachers.folder(tmp_path_factory.mktemp("teachers") / "small", has_registers=True)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "aligned"
    train(run, 4, *options(folder), "--every.checkpoint", "2 steps")
    return run


def resume_from_step_2(run: Path, copy: Path, *more: str, check: bool = True) -> str:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "step-00000004")
    return train(copy, 4, *more, "--every.checkpoint", "2 steps", check=check).stderr


def test_the_loss_has_an_alignment_and_the_checkpoint_a_digest(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["d/alignment"] < 2 for line in lines)
    checkpoint = run / "checkpoints" / "step-00000004"
    assert len(json.loads((checkpoint / "state.json").read_text())["teacher"]) == 64
    for file in checkpoint.glob("*.safetensors"):  # the teacher's own weights are not kept
        assert not any("position_embeddings" in name for name in load_file(file))
    projector = load_file(checkpoint / "discriminator.safetensors")["projector.4.weight"]
    assert projector.shape[0] == teachers.SIZES["hidden_size"]  # the teacher's own width


def test_resumed_to_the_bit_also_when_the_folder_moved(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    resume_from_step_2(run, tmp_path / "same", *options(folder))
    assert hashes(tmp_path / "same", 4) == hashes(run, 4)
    resume_from_step_2(run, tmp_path / "other", *options(moved))
    same, expected = hashes(tmp_path / "other", 4), hashes(run, 4)
    del same["state.json"], expected["state.json"]  # which names the folder
    assert same == expected


def test_another_teacher_does_not_resume(run: Path, tmp_path: Path) -> None:
    other = teachers.folder(tmp_path / "teacher", has_registers=True, seed=1)
    error = resume_from_step_2(run, tmp_path / "run", *options(other), check=False)
    assert "was trained with another teacher's weights\nhint: name the folder" in error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective.alignment.features", "12"],
         "`objective.alignment.features` is 12 but the features of teacher `dinov2-s-reg` have "
         "width 16"),
        (["--objective.alignment.teacher", "dinov2-s"],
         "teacher `dinov2-s` is a `dinov2` but"),
        (["--objective.alignment.teacher", "dinov2-g"], "invalid choice"),
        (["--objective.alignment.teacher-path", "nowhere"],
         "`objective.alignment.teacher_path` is `nowhere`, whose `config.json` is missing"),
        (["--objective.alignment.teacher", ""],
         "`objective.alignment.teacher_path` is set without `objective.alignment.teacher`"),
    ],
)  # fmt: skip
def test_mistakes(more: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "run", 2, *options(folder), *more, check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
