"""Numbers and their protocols, with a network whose features are mean colors."""

from typing import Any, NamedTuple

import pytest
import torch

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Collector, Field, ImageSet, LabeledBatch, SetFeatures
from scalegan.evaluation.measure import Metric, Number, fields_of, measure
from scalegan.evaluation.tables import METRICS
from scalegan.interfaces import Features, Images
from scalegan.metrics.statistics import moments
from scalegan.runtime.world import World

ALONE = World(0, 1, torch.device("cpu"))


class Colors:
    def __init__(self, standard: bool = False, digest: str = "ab12") -> None:
        self.about: dict[str, Any] = {"kind": "colors", "label": f"colors {digest}"}
        self.about |= {"digest": digest, "classes": ["0", "1"], "held_out_accuracy": 0.75}
        self.about |= {"is_published": True} if standard else {}

    def __call__(self, images: Images) -> Features:
        pooled = images.float().flatten(2)[:, :, :2].flatten(1) / 255  # (N, 6)
        return Features(pooled, pooled[:, :3], torch.stack([1 - pooled[:, 0], pooled[:, 0]], 1))

    def identity(self) -> dict[str, Any]:
        return self.about


def images(count: int, seed: int = 0, low: int = 0) -> Images:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (count, 3, 4, 4), generator=rng).to(torch.uint8)


def see(images: Images, fields: set[Field], network: Colors, **about: Any) -> ImageSet:
    collector = Collector({"colors": network}, fields)
    labels = (images[:, 0, 0, 0] > 127).long()
    collector.add(LabeledBatch(images, labels, torch.arange(len(images))))
    return collector.finish(ALONE, ["0", "1"], **about)


def run(
    names: list[str], real: Images, fake: Images, network: Colors | None = None, **options: Any
) -> dict[str, Number]:
    network = network or Colors()
    chosen = {name: METRICS[name] for name in names}
    needed = (fields_of(chosen.values(), side, with_floor=True) for side in ("real", "fake"))
    sets = [
        see(images, fields, network, rounding="nearest", kind=kind)
        for kind, images, fields in zip(("real", "fake"), (real, fake), needed, strict=True)
    ]
    found = measure(chosen, {"colors": network}, *sets, **options)
    return {number.name: number for number in found}


def test_the_same_images_are_at_no_distance_and_others_are() -> None:
    real = images(200)
    same, other = run(["fid"], real, real), run(["fid"], real, images(200, 1, low=100))
    assert same["fd"].value == pytest.approx(0, abs=1e-9)
    assert other["fd"].value and other["fd"].value > 0.1


def test_a_collapsed_generator_is_precise_and_recalls_nothing() -> None:
    real = images(100)
    found = run(["pr", "dc", "copies"], real, real[:1].repeat(100, 1, 1, 1))
    assert found["precision"].value == 1 and found["recall"].value == pytest.approx(0.01, abs=0.02)
    assert found["copied_share"].value == 1 and found["duplicate_share"].value == 0.99
    swapped = run(["pr"], real[:1].repeat(100, 1, 1, 1), real)
    assert swapped["precision"].value != found["precision"].value
    assert any("exact copies" in mark for mark in found["precision"].marks)


def test_every_metric_of_the_table_yields_numbers_with_protocol() -> None:
    names = [name for name in METRICS if name != "cas"]
    found = run(names, images(120), images(100, 1), with_floor=True)
    assert {number.metric for number in found.values()} == set(names)
    for number in found.values():
        assert number.value is not None, number.name
        assert number.num_fake == 100 and number.num_real in (0, 120)
        assert number.protocol["samples"]["kind"] == "fake"
        assert number.protocol["definition"]["id"] == METRICS[number.metric].id
        assert number.kind == METRICS[number.metric].kind
    assert found["fd"].title == "FD (colors ab12)" and found["precision"].floor is not None
    assert found["accuracy"].floor == 0.75 and found["accuracy"].value == 1
    assert found["kd"].protocol["definition"]["subsets"] == 100
    assert found["precision"].protocol["definition"] == {"id": "precision-recall", "k": 3}
    assert set(found["per-class"].details["distances"]) == {0, 1}


def test_the_floor_is_two_halves_of_the_real_images() -> None:
    found = run(["fid", "pr"], images(400), images(100, 1, low=200), with_floor=True)
    assert 0 < found["fd"].floor < found["fd"].value / 10  # type: ignore[operator]
    assert found["recall"].floor > found["recall"].value  # type: ignore[operator]
    assert run(["fid"], images(40), images(40, 1))["fd"].floor is None


def test_published_names_are_for_published_protocols() -> None:
    real, network = images(60), Colors(standard=True)
    found = run(["fid"], real, real, network)
    assert [number.title for number in found.values()] == ["FID-60"]
    assert list(found) == ["fid"]


def test_few_images_and_missing_classes_are_marked() -> None:
    found = run(["fid", "per-class"], images(100), images(5, 1, low=200))
    assert any("too few" in mark for mark in found["fd"].marks)
    assert any("1 classes have too few" in mark for mark in found["per-class"].marks)


def test_what_is_lacking_is_said() -> None:
    network, fake = Colors(), images(50)
    found = see(fake, {Field.MOMENTS, Field.BANK}, network)
    arguments: Any = ({"colors": network}, None, found)
    with pytest.raises(ConfigError, match="`fid` needs a reference"):
        measure({"fid": METRICS["fid"]}, *arguments)
    message = "`accuracy` needs class_logits of the fake images"
    with pytest.raises(ConfigError, match=message) as error:
        measure({"accuracy": METRICS["accuracy"]}, *arguments)
    assert "classifier" in error.value.hint


class Pair(NamedTuple):
    one: float
    two: float


def test_a_new_metric_is_a_function_and_a_line() -> None:
    def pair(bank: torch.Tensor, k: int) -> Pair:
        return Pair(len(bank), k)

    metric = Metric("pair", "pair", "score", pair, fake=(Field.BANK,), parameters={"k": 7})
    network = Colors()
    fake = see(images(9), {Field.BANK}, network)
    one, two = measure({"pair": metric}, {"colors": network}, None, fake)
    assert (one.name, one.value, two.name, two.value) == ("one", 9, "two", 7)
    assert one.protocol["definition"] == {"id": "pair", "k": 7} and one.num_real == 0


def test_the_order_of_generated_images_does_not_count() -> None:
    """Sorted by class each part of the Inception Score would see one class alone."""
    metric, logits = METRICS["is"], 9 * torch.eye(10).repeat_interleave(50, 0)
    assert metric.function(logits).mean == pytest.approx(1)
    found = metric(None, SetFeatures(500, logits=logits), 10, seed=0)
    assert found.mean > 5
    assert found == metric(None, SetFeatures(500, logits=logits), 10, seed=0)


def test_infinity_is_below_the_biased_distance() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(count, 4, generator=rng) for count in (4000, 500))
    sets = SetFeatures(4000, moments=moments(real)), SetFeatures(500, bank=fake)
    found = METRICS["fid-infinity"](*sets, 0, seed=0)
    assert found.value < found.distances[-1] < found.distances[0]
