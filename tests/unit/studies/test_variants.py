"""What the studies vary, and what they refuse."""

from dataclasses import replace
from pathlib import Path

import pytest

from scalegan.commands.study import Study as Flags
from scalegan.commands.study import study_command
from scalegan.config.budget import parse_budget
from scalegan.errors import ConfigError
from scalegan.studies import levels, objective, sweeps
from scalegan.studies.study import Request, run_study
from scalegan.studies.tables import STUDIES


def test_sizes_are_widths_or_named_and_a_discriminator_may_have_its_own() -> None:
    configs = sweeps.sizes(Request("digits", {"model.depth": 8}, ("32", "64/32", "S", "B/S")))
    assert [config.name for config in configs] == [
        "width-32", "width-64-D-32", "size-S", "size-B-D-S",
    ]  # fmt: skip
    sizes = [(c.model.width, *c.model.discriminator_size) for c in configs]  # type: ignore[attr-defined]
    assert sizes == [(32, 32, 8, 1), (64, 32, 8, 1), (384, 384, 12, 6), (768, 384, 12, 6)]


def test_without_values_patches_are_those_that_divide_the_side() -> None:
    names = [config.name for config in sweeps.patches(Request("digits", {}))]
    assert names == ["patch-2", "patch-4", "patch-8"]
    names = [c.name for c in sweeps.patches(Request("digits", {"model.patch_size": 8}))]
    assert names == ["patch-4", "patch-8"]
    with pytest.raises(ConfigError, match="`--values` has `x`; expected a positive integer"):
        sweeps.patches(Request("digits", {}, ("x",)))


def test_levels_differ_in_guidance_alone() -> None:
    guidance, one, none, linear = levels.levels(Request("digits", {}))
    assert one.model.num_levels == 1  # type: ignore[attr-defined]
    assert none.objective.noise.min_information == 1
    assert linear.objective.noise.schedule == "linear"
    assert replace(linear, name="", objective=guidance.objective) == replace(guidance, name="")


def test_objectives_leave_out_what_the_recipe_is_or_lacks() -> None:
    names = {config.name for config in objective.objective(Request("digits", {}))}
    assert {"recipe", "no-r1", "no-r2", "no-penalty", "logistic", "hinge"} <= names
    assert not {"relativistic", "no-augment"} & names
    names = {
        c.name for c in objective.objective(Request("digits", {"objective.augment.flip": 0.5}))
    }
    assert "no-augment" in names


def test_what_a_study_does_not_vary_is_refused(tmp_path: Path) -> None:
    work = (parse_budget("2 steps"), [0], tmp_path / "out")
    with pytest.raises(ConfigError, match="`scalegan study levels` does not vary it"):
        run_study("levels", STUDIES["levels"], Request("digits", {}, ("1",)), *work)
    with pytest.raises(ConfigError, match="compares at equal operations"):
        run_study("latents", STUDIES["latents"], Request("digits", {}, (), "x"), *work)
    with pytest.raises(ConfigError, match="needs `--shards`"):
        STUDIES["latents"].variants(Request("digits", {}))
    assert not (tmp_path / "out").exists()


def test_an_unknown_study_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match='`NAME` is "sizzes"; expected one of: sizes, ') as caught:
        study_command(["sizzes", "digits"])
    assert caught.value.hint == "did you mean `sizes`?"
    with pytest.raises(ConfigError, match="needs NAME and RECIPE, in this order"):
        study_command([])


def test_the_help_names_every_study() -> None:
    assert Flags.__doc__ and all(name in Flags.__doc__ for name in STUDIES)
