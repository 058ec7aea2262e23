"""The harness itself: which handler a case gets, how tolerances are read, what counts as wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from . import biggan, handlers, test_parity
from .cases import Case, read
from .compare import Close, CloseNorm, Mostly, Tolerance, faults, judge_all, read_rule


def case(name: str, title: str = "", outputs: tuple[str, ...] = ()) -> Case:
    empty = {output: torch.zeros(1) for output in outputs}
    return Case(name, {}, {}, {}, {}, empty, title)


def test_a_handler_is_found_by_name_then_title_then_outputs() -> None:
    assert handlers.handler(case("gen_forward_c")) is handlers.gen_forward
    assert handlers.handler(case("loss_plain_2", "tables")) is handlers.loss
    assert handlers.handler(case("x17", "disc_forward_z")) is handlers.disc_forward
    assert handlers.handler(case("x17", "y", ("0.levels", "0.w_avg"))) is handlers.gen_w_avg
    assert handlers.handler(case("x17", "", ("disc.adv", "disc.logits.real"))) is handlers.loss
    with pytest.raises(LookupError, match=r"no handler for the case `x17` with outputs \['foo'\]"):
        handlers.handler(case("x17", "", ("foo",)))


def test_every_kind_of_case_has_a_sign() -> None:
    for system in (handlers, biggan):
        assert set(system.SIGNS) == set(system.HANDLERS)


def test_a_biggan_handler_is_found_by_what_is_recorded() -> None:
    assert biggan.handler(case("x", "", ("img_eval", "shared_y"))) is biggan.whole_generator
    assert biggan.handler(case("x", "", ("eval", "train"))) is biggan.discriminator_block
    with pytest.raises(LookupError, match=r"no handler for the case `x` with outputs \['foo'\]"):
        biggan.handler(case("x", "", ("foo",)))


def test_two_numbers_are_a_tolerance_for_the_whole_file(tmp_path: Path) -> None:
    save_file({"out.y": torch.zeros(1)}, tmp_path / "a.safetensors")
    about = {"tolerance": {"rtol": 1e-4, "atol": 2e-5}, "sn_eps": 0.5}
    (tmp_path / "a.json").write_text(json.dumps(about))
    found = read(tmp_path / "a.safetensors")
    assert Tolerance(found.tolerance).rule("y") == Close(1e-4, 2e-5)
    assert found.config["sn_eps"] == 0.5


def test_tolerances_are_read_from_their_sentences() -> None:
    assert read_rule("rtol 5e-3, atol 2e-3 (rounding)") == Close(5e-3, 2e-3)
    assert read_rule("atol 1e-5; float64 tables 1e-9") == Close(0.0, 1e-5, 1e-9)
    gradients = "per tensor: norm of the difference <= 2e-3 * norm of the reference + 1e-5"
    assert read_rule(gradients) == CloseNorm(2e-3, 1e-5)
    average = "atol 0.02 * learning rate for all but 0.1 % of the elements"
    assert read_rule(average, 3e-4) == Mostly(3e-4, ((0.02, 0.001),), 3e-4, 0.1)
    with pytest.raises(ValueError, match="no reading for the tolerance `about right`"):
        read_rule("about right")
    with pytest.raises(ValueError, match=r"no reading for the tolerance of \['colors'\]"):
        Tolerance({"colors": "atol 1"})


def test_the_pattern_that_says_most_counts() -> None:
    tolerance = Tolerance(
        {"out.*": "atol 1", "out.disc.r1, out.disc.r2": "atol 2", "everything else": "atol 3"}
    )
    assert [tolerance.rule(name).atol for name in ("disc.r2", "disc.adv")] == [2, 1]
    assert Tolerance({"out.kd_*": "atol 2"}).rule("levels") == Close(1e-5, 5e-5)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (torch.tensor([float("nan")]), torch.zeros(1)),
        (torch.zeros(1), torch.tensor([float("nan")])),
        (torch.zeros(1), torch.zeros(())),
        (torch.tensor([True]), torch.tensor([False])),
        (torch.tensor([1]), torch.tensor([2])),
    ],
)
@pytest.mark.parametrize(
    "sentence",
    [
        "atol 0.5",
        "norm of the difference <= 1e-1 * norm of the reference + 1e-1",
        "atol 0.02 * learning rate for all but 0.1 % of the elements",
    ],
)
def test_nan_shape_and_whole_numbers_count(
    mine: torch.Tensor, theirs: torch.Tensor, sentence: str
) -> None:
    tolerance = Tolerance({"out.*": sentence}, learning_rate=1.0)
    assert set(faults(judge_all({"0.average.x": mine}, {"0.average.x": theirs}, tolerance)))


def test_many_small_differences_are_reported_for_the_group() -> None:
    sentence = "median < 5e-4, 90th percentile < 1e-3, 99th < 1e-2, fraction above 0.1 < 1e-3"
    tolerance = Tolerance({"parameters": sentence}, learning_rate=1.0)
    theirs = {"0.generator.a": torch.zeros(1000), "0.generator.b": torch.zeros(1000)}
    ours = {"0.generator.a": torch.zeros(1000), "0.generator.b": torch.full((1000,), 5e-3)}
    found = faults(judge_all(ours, theirs, tolerance))
    assert found == {"0.generator.*": "1000 of 2000 elements are off by > 0.001"}
    few = {"0.generator.a": torch.zeros(1000), "0.generator.b": torch.zeros(1000)}
    few["0.generator.b"][0] = 1.0  # the sign of a vanishing gradient
    assert faults(judge_all(few, theirs, tolerance)) == {}


def test_an_absent_folder_is_one_skipped_test() -> None:

    params = test_parity.files_of(Path("nowhere"), {"gat"})
    assert [(param.id, param.marks[0].kwargs["reason"]) for param in params] == [
        ("none", "no reference vectors in `nowhere` (see --parity-dir)")
    ]
