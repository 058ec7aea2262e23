"""What `import scalegan` offers, what it costs, and that it gives what the commands give."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scalegan
from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import CompleteError, ConfigError
from scalegan.evaluation.classifier import train_classifier
from tests.support.runs import TINY

ROOT = Path(__file__).parents[1]
FUNCTIONS = ["evaluate", "load", "prepare", "train"]
SETTINGS = {
    flag.removeprefix("--").replace("-", "_"): int(value) if value.isdigit() else value
    for flag, value in zip(TINY[::2], TINY[1::2], strict=True)
}


def test_public_names() -> None:
    assert scalegan.__all__ == ["__version__", *FUNCTIONS]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_explains_itself_and_passes_nothing_through(name: str) -> None:
    function = getattr(scalegan, name)
    text, parameters = function.__doc__, inspect.signature(function).parameters
    assert all(f"\n    {part}:\n" in text for part in ("Args", "Returns", "Raises", "Example"))
    assert all(f"        {parameter}: " in text for parameter in parameters)
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, scalegan, scalegan.cli; print({'torch', 'tyro'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"


def test_the_function_and_the_package_train_do_not_hide_each_other() -> None:
    code = "import scalegan; from scalegan.train import loop; print(callable(scalegan.train))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "True\n"


def test_import_needs_no_installation() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import scalegan"
    command = [sys.executable, "-I", "-S", "-c", f"{code}; print(scalegan.__version__)"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout == f"{scalegan.__version__}\n"


def test_a_run_is_trained_and_loaded(tmp_path: Path) -> None:
    settings = {**SETTINGS, "train.duration": "2 steps"}
    outcome = scalegan.train("digits", tmp_path / "run", settings, device="cpu")
    assert (outcome.run, outcome.step, outcome.stopped_by) == (tmp_path / "run", 2, None)
    assert scalegan.load(outcome.run).sample(2).shape == (2, 3, 8, 8)
    with pytest.raises(CompleteError):
        scalegan.train("digits", tmp_path / "run", settings, device="cpu")


def test_an_override_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key `optim\.lr`"):
        scalegan.train("digits", tmp_path / "run", {"optim.lr": 1.0})
    assert not list(tmp_path.iterdir())


def test_images_are_prepared_and_evaluated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 4
    np.savez(tmp_path / "images.npz", images, labels)
    out = tmp_path / "shards"
    summary = scalegan.prepare(f"npz:{tmp_path / 'images.npz'}", out, workers=1, shard_rows=20)
    assert (summary.rows, summary.left_out, summary.num_shards) == (40, 0, 2)
    config = ClassifierConfig(images_seen=64, batch_size=16)
    train_classifier(str(out), tmp_path / "classifier", config)
    features = f"classifier:{tmp_path / 'classifier'}"
    (number,) = scalegan.evaluate(out, out, "fid", features, num=20, device="cpu")
    assert (number.num_real, number.num_fake) == (40, 20) and number.protocol
