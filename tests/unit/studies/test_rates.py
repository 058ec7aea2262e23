"""The probe of single steps, and the runs that compare the rule with one rate."""

from functools import partial

import pytest
import torch
from torch import nn

from scalegan.errors import ConfigError
from scalegan.studies import rates
from scalegan.studies.study import Request


def change_of_a_linear_layer(width: int, rate: float) -> float | None:
    """What one step of Adam changes in a product with inputs of a size that width leaves alone."""
    torch.manual_seed(0)
    layer, x = nn.Linear(width, 1, bias=False), torch.ones(1, width)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, betas=(0.0, 0.99), weight_decay=0.0)

    def step() -> None:
        layer(x).sum().backward()
        optimizer.step()

    (change,) = rates.changes_by(step, partial(layer, x))
    return change


def test_a_step_of_a_linear_layer_grows_with_its_width_unless_the_rate_shrinks() -> None:
    # Adam's first step moves every weight by the rate, and the output by rate * width.
    for width in (8, 64, 512):
        assert change_of_a_linear_layer(width, 1e-3) == pytest.approx(1e-3 * width, rel=1e-3)
        assert change_of_a_linear_layer(width, 1e-1 / width) == pytest.approx(0.1, rel=1e-3)


def test_a_change_that_is_not_finite_is_none() -> None:
    values = [torch.zeros(2), torch.tensor([0.0, float("nan")])]
    assert rates.changes_by(lambda: None, lambda: values.pop(0)) == [None]


def test_exponents_are_fitted_by_way_and_share_the_width_of_the_recipe() -> None:
    def entry(width: int, way: str, change: float) -> dict[str, object]:
        steps = [{"step": step, "samples": change, "logits": None} for step in rates.PROBED]
        return {"variant": f"{width} {way}", "width": width, "way": way, "steps": steps}

    probed = [entry(64, "rule", 0.5), entry(32, "rule", 0.5), entry(128, "rule", 0.5)]
    probed += [entry(32, "one-rate", 0.25), entry(128, "one-rate", 1.0)]
    assert rates.exponent(probed, "rule", 4, "samples")["exponent"] == pytest.approx(0)
    assert rates.exponent(probed, "one-rate", 4, "samples")["exponent"] == pytest.approx(1)
    assert rates.exponent(probed, "rule", 4, "logits")["exponent"] is None


def test_both_ways_have_the_rate_of_the_recipe_at_its_own_width() -> None:
    configs = {c.name: c for c in rates.rates(Request("digits", {}, ("32", "128")))}
    assert list(configs) == [
        "width-32-rule", "width-32-one-rate", "width-64-rule", "width-128-rule",
        "width-128-one-rate",
    ]  # fmt: skip
    rate = {name: rates.learning_rate("generator", config) for name, config in configs.items()}
    assert rate["width-32-one-rate"] == pytest.approx(rate["width-64-rule"])
    assert rate["width-128-rule"] == pytest.approx(rate["width-64-rule"] / 2)
    assert configs["width-128-rule"].model.num_heads == 4  # type: ignore[attr-defined]


def test_a_recipe_without_the_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`optim\.base_width` is 0"):
        rates.rates(Request("digits", {"optim.base_width": 0}))
    with pytest.raises(ConfigError, match="is of `gat`, but `digits-biggan` has `biggan`"):
        rates.rates(Request("digits-biggan", {}))
