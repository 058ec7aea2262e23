"""Every mistake a user can make gets one sentence, a hint if need be, exit code 2, no traceback."""

from pathlib import Path

import numpy as np
import pytest

from scalegan.cli import main
from scalegan.config import reading as configs
from tests.support.runs import TINY, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "digits"
    train(run, 2)
    return run


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


MISTAKES = {
    "tran digits": "unknown command `tran` | did you mean `train`?",
    "look runs/digits": "unknown command `look` | did you mean `visualize`?",
    "judge train digits x": "unknown command `judge` | did you mean `classifier train`?",
    "reference digits x.npz": "unknown command `reference` | did you mean `statistics`?",
    "generate runs/digits": "unknown command `generate` | did you mean `sample`?",
    "version": "unknown command `version` | did you mean `--version`?",
    "classifier trian digits x": (
        "unknown command `classifier trian` | did you mean `classifier train`?"
    ),
    "xyz": "unknown command `xyz` | `scalegan --help` lists the commands",
    "train digit": "there is no recipe `digit` and no file of that name | recipes: digits",
    "train digits --train.bach-size 3": (
        "unknown option `--train.bach-size` | did you mean `--train.batch-size`?"
    ),
    "train digits --lr 3": "unknown option `--lr` | did you mean `--optim.learning-rate`?",
    "train digits --optim.lr 3": (
        "unknown option `--optim.lr` | did you mean `--optim.learning-rate`?"
    ),
    "train digits-biggan --model.patch-size 3": (
        "unknown option `--model.patch-size` | did you mean `--model.architecture`?"
    ),
    "sample --sedes 0-3 runs/digits": "unknown option `--sedes` | did you mean `--seeds`?",
    "train digits --train.batch-size many": (
        "`--train.batch-size` is `many`; expected a number | `scalegan train --help` explains it"
    ),
    "train digits --train.precision float16": (
        "invalid choice `float16` for argument `--train.precision`; expected one of (`float32`, "
        "`bfloat16`) | `scalegan train --help` explains it"
    ),
    "train digits --train.batch-size": (
        "missing value for argument `--train.batch-size`; expected one | "
        "`scalegan train --help` explains it"
    ),
    "train digits digits-biggan": ("`digits-biggan` is one argument too many for `scalegan train`"),
    "train digits --train.batch-size 0": (
        "`train.batch_size` is 0; input should be greater than or equal to 1"
    ),
    "train digits --train.batch-size 5000": (
        "`train.batch_size` 5000 is larger than the data set (1797 images)"
    ),
    "train digits --train.micro-batches 3": (
        "`train.batch_size` 64 does not divide into 1 ranks of 3 micro-batches | "
        "choose a multiple of 3"
    ),
    "train digits --train.duration 5": (
        '`train.duration` is "5"; expected a positive number and a unit | '
        'for example "150k steps", "50M images" or "60 epochs"'
    ),
    "train digits --model.patch-size 3": (
        "samples of 8x8 do not fit `model.patch_size` 3 | "
        "samples must be square, their side a multiple of the patch size"
    ),
    "train digits --model.depth 6": (
        "`model.depth` 6 is not a multiple of `model.num_levels` 4 | "
        "every level needs the same number of blocks"
    ),
    "train digits --data.source imagenet": (
        "`imagenet` is neither a file nor a folder, nor a source's name | a path, or one of "
        "folder, flat, zip, webdataset, parquet, npz, digits with a colon and a path, as in "
        "npz:PATH"
    ),
    "train digits --data.source npz:nowhere.npz": (
        "there is no file `nowhere.npz` | the source is npz:PATH"
    ),
    "train digits --objective.alignment.features 5": (
        "`objective.alignment` is set but its weight is 0 | set the weight or leave it out"
    ),
    "check": "`scalegan check` needs SOURCE | `scalegan check --help` explains it",
    "prepare digits": (
        "`scalegan prepare` needs SOURCE and OUT | `scalegan prepare --help` explains it"
    ),
    "prepare digits out --shard-rows 0": "`--shard-rows` is 0; expected 1 or more",
    "sample runs/digits --batch-size 0": "`--batch-size` is 0; expected 1 or more",
    "sample runs/digits --truncation -0.5": "`--truncation` is -0.5; expected 0 or more",
    "visualize runs/digits --count 1": "`--count` is 1; expected 2 or more",
    "statistics digits out": "OUT is `out`; expected a file named something.npz",
    "compare digits": "`scalegan compare` needs two recipes or more",
    "classifier": (
        "`scalegan classifier train` needs SOURCE and OUT | "
        "`scalegan classifier train --help` explains it"
    ),
    "check nowhere": (
        "`nowhere` is neither a file nor a folder, nor a source's name | a path, or one of "
        "folder, flat, zip, webdataset, parquet, npz, digits with a colon and a path, as in "
        "npz:PATH"
    ),
    "check digits --size -1": "`--size` is -1; expected 0 or more",
    "check digits --size 16": "`digits` holds no image that can be used",
    "check .": "`.` holds no image that can be used",
    "train": (
        f"`scalegan train` needs RECIPE | a config.toml, or one of: {', '.join(configs.recipes())}"
    ),
    "train --run x digits": "`--run` comes before RECIPE | put RECIPE first",
    "sample nowhere": (
        "`nowhere` does not exist | "
        "name a run folder after its first checkpoint, or a snapshot folder"
    ),
    "sample RUN --classes zebra": (
        "there is no class `zebra`; the model knows 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 | "
        "give class names or indices from 0"
    ),
    "sample RUN --seeds 9-1": '`--seeds` is "9-1"; expected seeds such as 0-63 or 1,5,9',
    "info nowhere": (
        "`nowhere` does not exist | "
        "name a run folder after its first checkpoint, or a snapshot folder"
    ),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistake(
    command: str, run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = [str(run) if word == "RUN" else word for word in command.split()]
    message, _, hint = MISTAKES[command].partition(" | ")
    assert mistake(capsys, *words) == [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    assert list(tmp_path.iterdir()) == []  # refused before any work


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = -1", "`seed` is -1; input should be greater than or equal to 0"),
        ("[optim]\nlearnig_rate = 1.0", "unknown key `optim.learnig_rate`"),
        ("[optim]\nlearning_rate = '1e-4'", '`optim.learning_rate` is "1e-4"'),
        ("[train]\nshare_noise = 1", "`train.share_noise` is 1; input should be a valid boolean"),
        ("[model\n", "is not TOML: "),
        ("seed = 2026-11-22", "a value is neither text, number, list nor table: "),
    ],
)
def test_mistake_in_a_file(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert message in mistake(capsys, "train", str(tmp_path / "config.toml"))[0]


def test_a_complete_run_is_not_run_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "digits", "--run", str(run), *TINY, "--train.duration", "2 steps"]
    lines = mistake(capsys, *arguments)
    assert lines == [
        f"error: `{run}` is complete: step 2 of 2",
        "hint: raise --train.duration to go on, or choose another --run",
    ]


def test_another_model_does_not_resume(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "digits", "--run", str(run), *TINY, "--train.duration", "4 steps"]
    lines = mistake(capsys, *arguments, "--model.width", "24")
    assert "was made with `model.width` = 16, not 24" in lines[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_1": np.zeros(4, int)}, "lacks the array arr_0; it has arr_1"),
        (
            {"arr_0": np.zeros((4, 8, 8), np.float32), "arr_1": np.zeros(4, int)},
            "is float32 with 3 axes; expected uint8 (N, H, W) or (N, H, W, 3)",
        ),
        (
            {"arr_0": np.zeros((4, 8, 8), np.uint8), "arr_1": np.zeros(3, int)},
            "expected a label for each of the 4 images",
        ),
        (
            {"arr_0": np.zeros((4, 8, 6), np.uint8), "arr_1": np.zeros(4, int)},
            "image `00000000` is 6x8; expected a square, for no size was given",
        ),
    ],
)
def test_bad_arrays(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    np.savez(tmp_path / "data.npz", **arrays)
    lines = mistake(capsys, "train", "digits", "--data.source", f"npz:{tmp_path / 'data.npz'}")
    assert message in lines[0]


def test_a_pickle_in_an_archive_is_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, arr_0=np.array([{"a": 1}], dtype=object), arr_1=np.zeros(1, int))
    lines = mistake(capsys, "train", "digits", "--data.source", f"npz:{path}")
    assert "is not a readable .npz of plain arrays" in lines[0]
