"""Numbers and their protocols, with a network whose features are mean colors."""

from typing import Any, NamedTuple

import pytest
import torch

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Collector, Seen, Shown
from scalegan.evaluation.measure import Context, Metric, Number, kinds_of, measure
from scalegan.evaluation.protocol import comparable, fingerprint, refuse_unlike
from scalegan.evaluation.tables import METRIC_GROUPS, METRICS
from scalegan.interfaces import Features, Images
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


def see(images: Images, kinds: set[str], network: Colors, **about: Any) -> Seen:
    collector = Collector({"colors": network}, kinds)
    labels = (images[:, 0, 0, 0] > 127).long()
    collector.add(Shown(images, labels, torch.arange(len(images))))
    return collector.finish(ALONE, **about)


def run(
    names: list[str], real: Images, fake: Images, network: Colors | None = None, **options: Any
) -> dict[str, Number]:
    network = network or Colors()
    chosen = [METRICS[name] for name in names]
    sides = [see(images, kinds_of(chosen, side, True), network, rounding="nearest", kind=side)
             for side, images in (("real", real), ("fake", fake))]  # fmt: skip
    found = measure(names, METRICS, {"colors": network}, *sides, Context(2, 0), **options)
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
        assert number.protocol["variant"]["function"]
    assert found["fd"].title == "FD (colors ab12)" and found["precision"].floor is not None
    assert found["accuracy"].floor == 0.75 and found["accuracy"].value == 1
    assert found["kd"].protocol["variant"]["subsets"] == 100
    assert found["precision"].protocol["variant"]["k"] == 3
    assert set(found["per-class"].details["distances"]) == {0, 1}
    for group in METRIC_GROUPS.values():
        assert set(group) <= set(METRICS)


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
    seen = see(fake, {"moments", "bank"}, network)
    arguments: Any = (METRICS, {"colors": network}, None, seen, Context(2))
    with pytest.raises(ConfigError, match="`fid` needs a reference"):
        measure(["fid"], *arguments)
    with pytest.raises(ConfigError, match="`accuracy` needs verdicts of the fake images") as error:
        measure(["accuracy"], *arguments)
    assert "classifier" in error.value.hint


class Pair(NamedTuple):
    one: float
    two: float


def test_a_new_metric_is_a_function_and_a_line() -> None:
    table = {"pair": Metric("pair", lambda bank, k=7: Pair(len(bank), k), ("fake.bank",), "score")}
    network = Colors()
    fake = see(images(9), {"bank"}, network)
    one, two = measure(["pair"], table, {"colors": network}, None, fake, Context(0))
    assert (one.name, one.value, two.name, two.value) == ("one", 9, "two", 7)
    assert one.protocol["variant"]["k"] == 7 and one.num_real == 0


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("", "num_fake", 10, "its `num_fake` is 50 in the first and 10 in the second"),
        ("features", "digest", "ff", "its `features.digest` is 'ab12'"),
        ("features", "resize", "clean", "its `features.resize` is None"),
        ("reference", "digest", "ff", "its `reference` is"),
        ("variant", "k", 5, "its `variant.k` is 3"),
        ("samples", "rounding", "truncate", "its `rounding` is 'nearest'"),
    ],
)
def test_unlike_numbers_are_refused(part: str, key: str, value: Any, message: str) -> None:
    number = run(["pr"], images(60), images(50, 1))["precision"]
    refuse_unlike("precision", number.protocol, number.protocol)
    other = dict(number.protocol)
    if part:
        other[part] = other[part] | {key: value}
    else:
        other[key] = value
    assert fingerprint(other) != number.fingerprint
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        refuse_unlike("precision", number.protocol, other)


def test_truncation_and_paths_do_not_forbid_a_comparison() -> None:
    number = run(["pr"], images(60), images(50, 1))["precision"]
    other = number.protocol | {"samples": number.protocol["samples"] | {"truncation": 0.5}}
    other["features"] = other["features"] | {"path": "elsewhere", "label": "x"}
    assert comparable(other) == comparable(number.protocol)
