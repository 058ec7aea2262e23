"""What is given beside a recipe replaces what the recipe says, and what follows from it."""

import pytest

from scalegan.config.overrides import merge, read_with
from scalegan.config.reading import read, resolve
from scalegan.errors import ConfigError

SIZED = {"model": {"width": 64, "depth": 4}, "data": {"source": "digits", "held_out": 3}}


def test_nothing_given_changes_nothing() -> None:
    assert merge(SIZED, {}) == SIZED
    assert read_with("digits", {}) == resolve(read("digits"))


def test_values_replace_values_and_tables_are_made() -> None:
    merged = merge(SIZED, {"model.width": 32, "train.ema.decay": 1, "seed": 2})
    assert merged["model"] == {"width": 32, "depth": 4}
    assert (merged["train"], merged["seed"]) == ({"ema": {"decay": 1}}, 2)
    assert SIZED["model"]["width"] == 64


def test_a_size_replaces_the_numbers_that_are_not_given() -> None:
    assert merge(SIZED, {"model.size": "B"})["model"] == {"size": "B"}
    merged = merge(SIZED, {"model.width": 64, "model.size": "B"})
    assert merged["model"] == {"size": "B", "width": 64}


def test_shards_replace_the_source_and_the_other_way_round() -> None:
    by_shards = merge(SIZED, {"data.shards": "x"})
    assert by_shards["data"] == {"shards": "x", "held_out": 3}
    assert merge(by_shards, {"data.source": "y"})["data"] == {"source": "y", "held_out": 3}
    both = merge(SIZED, {"data.source": "y", "data.shards": "x"})["data"]
    assert (both["source"], both["shards"]) == ("y", "x")
    config = read_with("digits", {"data.shards": "x"})
    assert (config.data.source, config.data.shards) == ("", "x")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optim.lr": 1.0}, r"unknown key `optim\.lr`"),
        ({"train.batch_size": "8"}, '`train.batch_size` is "8"'),
        ({"name.x": 1}, "`name` of `name.x` is a value; expected a table"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_with("digits", overrides)
