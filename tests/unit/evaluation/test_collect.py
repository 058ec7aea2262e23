"""One pass: the same for any batch size and order, and nothing is stored that nobody takes."""

import pytest
import torch

from scalegan.errors import DataError
from scalegan.evaluation.collect import Collector, Field, ImageSet, LabeledBatch, split
from scalegan.interfaces import Features, Images
from scalegan.metrics.statistics import moments
from scalegan.runtime.world import World

ALONE = World(0, 1, torch.device("cpu"))
ALL = set(Field) - {Field.CLASS_LOGITS}


class Means:
    """Mean color, its double as spatial features, and two logits."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Images) -> Features:
        self.calls += 1
        pooled = images.float().mean(dim=(2, 3))
        return Features(pooled, 2 * pooled, pooled[:, :2])

    def identity(self) -> dict[str, object]:
        return {"kind": "means", "label": "means", "digest": "0"}


def images(count: int = 30, side: int = 4, seed: int = 0) -> Images:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=rng).to(torch.uint8)


def see(images: Images, order: torch.Tensor, batch_size: int, fields: set[Field]) -> ImageSet:
    collector = Collector({"a": Means()}, fields)
    labels = torch.arange(len(images)) % 3
    for part in order.split(batch_size):
        collector.add(LabeledBatch(images[part], labels[part], part))
    return collector.finish(ALONE, ["x", "y", "z"], kind="test")


def test_order_and_batch_size_change_nothing() -> None:
    inputs = images()
    straight = see(inputs, torch.arange(30), 30, ALL)
    mixed = see(inputs, torch.randperm(30, generator=torch.Generator().manual_seed(1)), 7, ALL)
    a, b = straight.features["a"], mixed.features["a"]
    assert a.bank is not None and b.bank is not None and a.moments and b.moments
    assert torch.equal(a.bank, b.bank) and torch.equal(a.labels, b.labels)  # type: ignore[arg-type]
    assert torch.equal(a.images, inputs) and torch.equal(b.images, inputs)  # type: ignore[arg-type]
    torch.testing.assert_close(a.moments.covariance, b.moments.covariance, rtol=0, atol=1e-10)
    assert straight.about == mixed.about
    assert straight.about["num_images"] == 30 and straight.about["side"] == 4


def test_every_network_runs_once_and_only_what_is_taken_is_stored() -> None:
    first, second = Means(), Means()
    collector = Collector({"a": first, "b": second}, {Field.MOMENTS})
    for part in torch.arange(30).split(10):
        collector.add(LabeledBatch(images()[part], part, part))
    seen = collector.finish(ALONE, [])
    assert first.calls == second.calls == 3
    side = seen.features["b"]
    assert side.moments and side.bank is side.images is side.logits is side.spatial is None


def test_the_digest_knows_the_images_and_not_their_order() -> None:
    def digest(inputs: Images) -> str:
        return see(inputs, torch.arange(len(inputs)), 8, set()).about["digest"]

    inputs = images()
    assert digest(inputs) == digest(inputs.flip(0))
    other = inputs.clone()
    other[3, 0, 0, 0] += 1
    assert digest(other) != digest(inputs)


def test_images_without_labels_have_none() -> None:
    collector = Collector({"a": Means()}, {Field.LABELS})
    collector.add(LabeledBatch(images(), torch.full((30,), -1), torch.arange(30)))
    assert collector.finish(ALONE, []).features["a"].labels is None


def test_sizes_are_not_mixed_and_nothing_is_no_side() -> None:
    collector = Collector({"a": Means()}, set())
    with pytest.raises(DataError, match="fewer images than processes"):
        collector.finish(ALONE, [])
    collector.add(LabeledBatch(images(2, 4), torch.zeros(2).long(), torch.arange(2)))
    with pytest.raises(DataError, match="4 and 8 pixels"):
        collector.add(LabeledBatch(images(2, 8), torch.zeros(2).long(), torch.arange(2)))


def test_halves_are_disjoint_and_follow_the_seed() -> None:
    side = see(images(31), torch.arange(31), 31, {Field.BANK, Field.LABELS}).features["a"]
    first, second = split(side, 0)
    assert first.count == second.count == 15
    assert first.bank is not None and second.bank is not None and first.moments
    rows = {tuple(row) for bank in (first.bank, second.bank) for row in bank.tolist()}
    assert len(rows) == 30
    assert torch.equal(first.moments.mean, moments(first.bank).mean)
    assert torch.equal(split(side, 0)[0].bank, first.bank)  # type: ignore[arg-type]
    assert not torch.equal(split(side, 1)[0].bank, first.bank)  # type: ignore[arg-type]


def test_networks_run_in_full_precision_whatever_the_surroundings() -> None:
    class Product(Means):
        def __call__(self, images: Images) -> Features:
            assert torch.get_float32_matmul_precision() == "highest"
            pooled = images.float().mean(dim=(2, 3))
            return Features(pooled @ torch.eye(3))

    torch.set_float32_matmul_precision("medium")
    try:
        collector = Collector({"a": Product()}, {Field.BANK})
        with torch.autocast("cpu", torch.bfloat16):
            collector.add(
                LabeledBatch(images(), torch.zeros(30, dtype=torch.int64), torch.arange(30))
            )
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    bank = collector.finish(ALONE, []).features["a"].bank
    torch.testing.assert_close(bank, images().float().mean(dim=(2, 3)))
