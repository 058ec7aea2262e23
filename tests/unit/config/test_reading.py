from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalegan.config.durations import count_steps, parse_duration
from scalegan.config.models import GAT_SIZES, GATConfig
from scalegan.config.objective import AlignmentConfig
from scalegan.config.reading import (
    parse,
    parse_model,
    read,
    recipes,
    resolve,
    setting_names,
    to_toml,
)
from scalegan.config.schema import Config
from scalegan.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"optim": {"learnig_rate": 1}}, "unknown key `optim.learnig_rate`",
         "did you mean `optim.learning_rate`?"),
        ({"objective": {"penalty": {"r22": 1.0}}}, "unknown key `objective.penalty.r22`",
         "did you mean `objective.penalty.r2`?"),
        ({"sed": 1}, "unknown key `sed`", "did you mean `seed`?"),
        ({"zzzzzzzzzzzz": 1}, "unknown key `zzzzzzzzzzzz`", ""),
    ],
)  # fmt: skip
def test_unknown_keys_are_refused(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert (str(caught.value), caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "0"}, '`seed` is "0"; input should be a valid integer'),
        ({"seed": True}, "`seed` is true; input should be a valid integer"),
        ({"seed": 1.5}, "`seed` is 1.5; input should be a valid integer"),
        ({"seed": -1}, "`seed` is -1; input should be greater than or equal to 0"),
        ({"train": {"batch_size": 0}}, "`train.batch_size` is 0; input should be greater than"),
        ({"train": {"share_noise": 1}}, "`train.share_noise` is 1; input should be a valid bool"),
        ({"optim": {"betas": [0.0]}}, "`optim.betas.1` is "),
        ({"optim": {"betas": [0.0, 1.0]}}, "`optim.betas.1` is 1.0; input should be less than 1"),
        ({"optim": {"learning_rate": "fast"}}, '`optim.learning_rate` is "fast"; input should be'),
        ({"optim": {"learning_rate": float("nan")}}, "`optim.learning_rate` is NaN; "),
        ({"optim": 3}, "`optim` is 3; "),
        ({"objective": {"penalty": {"sigma": 0}}}, "`objective.penalty.sigma` is 0; input should"),
        ({"model": {"size": "XXL"}}, "`model.size` is \"XXL\"; input should be '', 'tiny', 'S'"),
        ({"name": {1, 2}}, "a value is neither text, number, list nor table: "),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert str(caught.value).startswith(message)


def test_the_model_part_alone_names_keys_in_full() -> None:
    assert parse_model({"width": 8}) == GATConfig(width=8)
    with pytest.raises(ConfigError, match=r"^unknown key `model\.widht`$"):
        parse_model({"widht": 8})
    with pytest.raises(ConfigError, match=r"^`model\.width` is \"8\"; "):
        parse_model({"width": "8"})


def test_integers_serve_as_floats() -> None:
    assert parse({"optim": {"learning_rate": 1}}).optim.learning_rate == 1.0


@pytest.mark.parametrize("size", GAT_SIZES)
def test_a_size_becomes_its_numbers(size: str) -> None:
    model = resolve(parse({"model": {"size": size}})).model
    assert (model.width, model.depth, model.num_heads) == GAT_SIZES[size]
    assert model.size == ""


def test_numbers_override_the_size() -> None:
    model = resolve(parse({"model": {"size": "B", "depth": 4}})).model
    assert (model.width, model.depth, model.num_heads) == (768, 4, 12)


@pytest.mark.parametrize("discriminator", ["", "tiny"])
def test_resolving_twice_is_resolving_once(discriminator: str) -> None:
    once = resolve(parse({"model": {"size": "S", "discriminator": discriminator}}))
    assert resolve(once) == once


def test_supervision_at_scales_is_known_to_the_model_and_needs_levels() -> None:
    objective = {"supervision": "scales", "level_consistency": 0.1}
    whole = resolve(parse({"model": {"size": "S"}, "objective": objective}))
    assert whole.model.supervision == "scales"
    for model in ({"size": "S", "num_levels": 1}, {"architecture": "biggan"}):
        with pytest.raises(ConfigError, match=r"^`objective\.supervision` is set but there is one"):
            resolve(parse({"model": model, "objective": objective, "optim": {"base_width": 0}}))


def test_the_discriminator_takes_a_size_of_its_own_or_the_generators() -> None:
    model = {"size": "S", "discriminator": "B", "discriminator_depth": 4}
    apart = resolve(parse({"model": model})).model
    assert (apart.width, apart.depth, apart.num_heads) == GAT_SIZES["S"]
    assert apart.discriminator_size == (768, 4, 12)
    assert resolve(parse({"model": {"size": "S"}})).model.discriminator_size == GAT_SIZES["S"]


def test_a_model_without_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`model\.depth` is not set$"):
        resolve(parse({"model": {"width": 16}}))


def test_an_alignment_without_weight_is_refused() -> None:
    config = parse({"model": {"size": "S"}, "objective": {"alignment": {"features": 5}}})
    with pytest.raises(ConfigError, match=r"^`objective\.alignment` is set but its weight is 0$"):
        resolve(config)
    aligned = replace(config.objective, alignment=AlignmentConfig(weight=1.0, features=5))
    assert resolve(replace(config, objective=aligned)).objective.alignment.features == 5


@pytest.mark.parametrize(("teacher", "width"), [("dinov2-s", 384), ("dinov2-l-reg", 1024)])
def test_a_teacher_s_name_tells_its_width(teacher: str, width: int) -> None:
    alignment = {"weight": 1.0, "teacher": teacher}
    config = parse({"model": {"size": "S"}, "objective": {"alignment": alignment}})
    resolved = resolve(config)
    assert resolved.objective.alignment.features == width
    assert resolve(resolved) == resolved


def test_an_order_of_color_changes_without_any_is_refused() -> None:
    augment = {"in_turn": True, "color": 0.0}
    config = parse({"model": {"size": "S"}, "objective": {"augment": augment}})
    with pytest.raises(ConfigError, match=r"^`objective\.augment\.in_turn` is set but `objective"):
        resolve(config)


@pytest.mark.parametrize("floor", [0.05, 0.09])
def test_a_level_of_noise_alone_is_refused(floor: float) -> None:
    noise = {"min_information": 0.05, "floor": floor}
    with pytest.raises(ConfigError) as caught:
        resolve(parse({"model": {"size": "S"}, "objective": {"noise": noise}}))
    expected = (
        f"`objective.noise.min_information` 0.05 is not above `objective.noise.floor` {floor}"
    )
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 step", (1, "steps")),
        ("150k steps", (150_000, "steps")),
        ("50M images", (50_000_000, "images")),
        ("2.5k images", (2500, "images")),
        ("60 epochs", (60, "epochs")),
        ("0.5 epoch", (0.5, "epochs")),
        ("  7   images ", (7, "images")),
    ],
)
def test_durations(text: str, expected: tuple[float, str]) -> None:
    assert parse_duration(text, "train.duration") == expected


@pytest.mark.parametrize(
    "text",
    ["", "5", "steps", "0 steps", "-1 steps", "nan steps", "inf steps", "5 hours", "5kk steps",
     "k steps", "5kM steps", "five steps"],
)  # fmt: skip
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration(text, "every.log")
    assert str(caught.value) == f'`every.log` is "{text}"; expected a positive number and a unit'


@pytest.mark.parametrize("name", ["train.duration", "every.log", "every.checkpoint"])
def test_resolve_reads_every_duration(name: str) -> None:
    section, key = name.split(".")
    with pytest.raises(ConfigError, match=rf"^`{name}` is "):
        resolve(parse({"model": {"size": "S"}, section: {key: "soon"}}))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("20 steps", 20),
        ("640 images", 10),
        ("641 images", 11),
        ("1 image", 1),
        ("1 epoch", 16),  # 1000 / 64 = 15.6
        ("2 epochs", 32),  # 31.25: an epoch's rest is not dropped
        ("0.1 steps", 1),
        ("1.5 steps", 2),
    ],
)
def test_durations_in_steps(text: str, steps: int) -> None:
    assert count_steps(text, "train.duration", images_per_step=64, num_rows=1000) == steps


def test_read_a_recipe_and_a_file(tmp_path: Path) -> None:
    assert "digits" in recipes()
    config = read("digits")
    assert config.name == "digits" and config.model.size == "tiny"
    (tmp_path / "mine.toml").write_text(to_toml(config))
    assert read(str(tmp_path / "mine.toml")) == config


def test_read_what_is_not_there() -> None:
    with pytest.raises(ConfigError) as caught:
        read("digit")
    assert str(caught.value) == "there is no recipe `digit` and no file of that name"
    assert caught.value.hint == "recipes: digits"


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe"])
def test_read_what_is_not_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not TOML|no file of that name"):
        read(str(tmp_path / "bad.toml"))


def test_setting_names_are_dotted_and_unique() -> None:
    names = setting_names()
    assert {"seed", "model.width", "objective.penalty.sigma"} <= set(names)
    assert len(set(names)) == len(names)
    assert "objective" not in names


def test_defaults_are_written_and_read() -> None:
    assert parse({}) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"objective": {"penalty": {"kind": "exact", "sigma": 0.1}}},
            "`objective.penalty.sigma` is set but an exact penalty has no step",
        ),
        (
            {
                "objective": {
                    "consistency": 0.1,
                    "augment": {"color": 0.0, "translation": 0.0, "cutout": 0.0, "flip": 0.0},
                }
            },
            "`objective.consistency` is set but `objective.augment` changes nothing",
        ),
        (
            {"objective": {"penalty": {"lazy": True}}},
            "`objective.penalty.lazy` is set but no step is skipped",
        ),
        (
            {"objective": {"path_length": {"weight": 2.0}}},
            "`objective.path_length.weight` is set but `objective.path_length.every` is not",
        ),
        (
            {"train": {"discriminator_turns": 2}},
            "`train.share_noise` is set but there are several `train.discriminator_turns`",
        ),
        (
            {"train": {"parallel": "shard"}, "objective": {"penalty": {"kind": "exact"}}},
            "`train.parallel` is `shard` but an exact penalty needs second derivatives",
        ),
        (
            {"objective": {"joint_batch": False, "alignment": {"weight": 1.0, "features": 5}}},
            "`objective.alignment` is set but `objective.joint_batch` is false",
        ),
        (
            {"model": {"architecture": "dcgan"}},
            '`model.architecture` is "dcgan"; expected one of: ',
        ),
    ],
)
def test_settings_without_effect_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(parse({"model": {"size": "S"}} | values))
    assert str(caught.value).startswith(message)
