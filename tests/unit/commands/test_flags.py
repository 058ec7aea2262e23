"""Words become flags: positionals anywhere, settings that were given and no others, ranges."""

import dataclasses
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalegan.cli import COMMANDS, command_of
from scalegan.commands.compare import Compare
from scalegan.commands.flags import parse_classes, parse_flags, parse_seeds, parse_with_recipe
from scalegan.commands.plan import Plan
from scalegan.commands.prepare import Prepare
from scalegan.commands.sample import Sample
from scalegan.commands.train import Train
from scalegan.errors import ConfigError


def test_positionals_stand_anywhere() -> None:
    expected = Prepare("digits", Path("out"), size=8, mirror=True)
    for words in ("digits out --size 8 --mirror", "--size 8 digits --mirror out"):
        assert parse_flags(Prepare, "prepare", words.split()) == expected


def test_flags_have_short_forms_underscores_and_equals_signs() -> None:
    expected = Sample(Path("run"), out=Path("x.npz"), batch_size=3)
    for words in ("run -o x.npz --batch-size 3", "run --out=x.npz --batch_size=3"):
        assert parse_flags(Sample, "sample", words.split()) == expected


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("", "`scalegan sample` needs RUN", "`scalegan sample --help` explains it"),
        ("run other", "`other` is one argument too many for `scalegan sample`", ""),
        ("run --sed 1", "unknown option `--sed`", "did you mean `--seeds`?"),
        ("run --psi 1", "unknown option `--psi`", "did you mean `--truncation`?"),
        ("run --xyzxyz 1", "unknown option `--xyzxyz`", "`scalegan sample --help` lists all "
         "options"),
        ("--run x", "unknown option `--run`", "did you mean `--out`?"),
        ("run --columns -1", "`--columns` is -1; expected 0 or more", ""),
        ("run --guidance -1", "`--guidance` is -1.0; expected 0 or more", ""),
        ("run --columns 1.5", "`--columns` is `1.5`; expected a number", "`scalegan sample --help` "
         "explains it"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence_and_a_hint(words: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_flags(Sample, "sample", words.split())
    assert (str(error.value), error.value.hint) == (message, hint)


def test_a_range_is_checked_where_a_value_is_given() -> None:
    assert parse_flags(Sample, "sample", ["run"]).truncation is None
    assert parse_flags(Sample, "sample", ["run", "--truncation", "0"]).truncation == 0
    with pytest.raises(ConfigError, match="`--truncation` is -0"):
        parse_flags(Sample, "sample", ["run", "--truncation", "-0.1"])


def test_only_the_settings_that_were_given_are_settings() -> None:
    words = "digits --run x --train.batch_size=64 --no-dry-run --optim.betas 0 0.9 --seed 3"
    flags, settings = parse_with_recipe(Train, "train", words.split())
    assert (flags.recipe, flags.run, flags.dry_run) == ("digits", Path("x"), False)
    assert settings == {"train.batch_size": 64, "optim.betas": (0.0, 0.9), "seed": 3}


def test_a_setting_that_is_given_as_the_recipe_has_it_was_given() -> None:
    """`compare` hands it on to recipes that have another value."""
    _, settings = parse_with_recipe(Compare, "compare", ["digits", "digits-biggan", "--seed", "0"])
    assert settings == {"seed": 0}


@pytest.mark.parametrize(("word", "value"), [("compile", True), ("no-compile", False)])
def test_a_setting_that_is_true_or_false_has_two_flags(word: str, value: bool) -> None:
    _, settings = parse_with_recipe(Train, "train", ["digits", f"--train.{word}"])
    assert settings == {"train.compile": value}


def test_a_comparison_takes_any_number_of_recipes() -> None:
    flags, _ = parse_with_recipe(
        Compare, "compare", ["digits", "digits-biggan", "x", "--seeds", "0-2"]
    )
    assert flags.recipes == ("digits", "digits-biggan", "x") and flags.seeds == "0-2"


def test_a_flag_of_the_command_is_no_setting() -> None:
    flags, settings = parse_with_recipe(Plan, "plan", ["digits", "--classes", "3", "--no-measure"])
    assert (flags.classes, flags.measure, settings) == (3, False, {})


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_shows_what_is_needed_and_every_setting(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_with_recipe(Train, "train", ["digits-biggan", word])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "RECIPE" in text and "--model.channels" in text and "Recipes: biggan-cifar10" in text
    assert "None" not in text.replace("none", "") and "--model.patch-size" not in text


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 9)), min_size=1))
def test_seeds_are_numbers_and_ranges(spans: list[tuple[int, int]]) -> None:
    text = ", ".join(f"{first}-{first + more}" if more else f"{first}" for first, more in spans)
    assert parse_seeds(text) == [s for first, more in spans for s in range(first, first + more + 1)]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected seeds such as 0-63 or 1,5,9"):
        parse_seeds(text)


def test_classes_are_names_separated_by_commas() -> None:
    assert parse_classes("cat, dog,") == ["cat", "dog"]
    assert parse_classes(" ") is None


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_has_a_whole_sentence(name: str) -> None:
    module = inspect.getmodule(command_of(name))
    (kind,) = [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__  # type: ignore
    ]
    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        if field.name == "config":
            continue
        _, _, rest = source.partition(f"\n    {field.name}: ")
        sentence = rest.partition('"""')[2].partition('"""')[0]
        assert sentence[0].isupper() and sentence.endswith("."), (name, field.name, sentence)
