import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.layers.bipartite import BipartiteAttention, direction_table

WIDTH, LATENT, POSITION, COMPONENTS, PIXELS = 12, 8, 4, 3, 16
OPTIONS: dict[str, Any] = {"num_heads": 2}


def layer(pixels: int = PIXELS, **options: Any) -> BipartiteAttention:
    torch.manual_seed(0)
    made = BipartiteAttention(WIDTH, LATENT, POSITION, COMPONENTS, pixels, **OPTIONS | options)
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "element_weight")):  # equal at the start, where they would hide
            torch.nn.init.normal_(parameter)
    return made


def inputs(pixels: int = PIXELS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = (2, pixels, WIDTH), (2, COMPONENTS, LATENT), (pixels, POSITION), (COMPONENTS, POSITION)
    x, latents, grid, positions = (torch.randn(shape, generator=rng) for shape in shapes)
    return x, latents, grid, positions


def affine(layer: Any, x: Tensor) -> Tensor:
    """Weights of unit variance, divided by the root of the fan-in."""
    return x @ layer.weight.T / math.sqrt(x.shape[-1]) + layer.bias


def softmax(scores: Tensor) -> Tensor:
    exponentials = scores.exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def shares_of_positions(seen: Tensor) -> Tensor:
    """(k, T): how a centroid is composed of positions."""
    return seen.T / (seen.sum(dim=0)[:, None] + 1e-8)


def naive(
    made: BipartiteAttention, options: dict[str, Any], carried: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer from its formulas, one sample and head after the other."""
    x, latents, grid, positions = inputs()
    heads, has_grid = made.num_heads, options.get("has_grid", True)
    has_positions, is_duplex = options.get("has_positions", True), options.get("is_duplex", False)
    h = WIDTH // heads
    out, seen = torch.empty_like(x), torch.empty(2, heads, PIXELS, COMPONENTS)
    assignments = torch.empty(2, heads, COMPONENTS, PIXELS)
    for n in range(2):
        content = affine(made.queries, x[n])
        place = affine(made.grid_map, grid) if has_grid else torch.zeros_like(content)
        values, context = affine(made.values, latents[n]), torch.empty(PIXELS, WIDTH)
        for head in range(heads):
            part = slice(head * h, (head + 1) * h)
            if is_duplex:
                # Content and place side by side before they are split into heads.
                element = torch.cat([content, place], dim=1)[:, 2 * head * h : 2 * (head + 1) * h]
                if carried is None:
                    centroids = made.centroids[0, head]
                else:
                    centroids = carried[n, head] @ element
                weighted = element * made.element_weight[head]
                weights = softmax(weighted @ centroids.T / math.sqrt(h))
                for _ in range(options.get("clusterings", 1) - 1):
                    centroids = shares_of_positions(weights) @ element
                    weights = softmax(weighted @ centroids.T / math.sqrt(h))
            else:
                keys = affine(made.keys, latents[n])
                keys = keys + affine(made.position_map, positions) if has_positions else keys
                weights = softmax((content + place)[:, part] @ keys[:, part].T / math.sqrt(h))
            if options.get("component_gate"):
                gate = affine(made.component_gate.content, latents[n])[:, head]
                if has_positions:
                    gate = gate + affine(made.component_gate.position, positions)[:, head]
                weights = weights / (1 + (-gate).exp())
            if options.get("pixel_gate"):
                gate = affine(made.pixel_gate.content, x[n])[:, head] + 1
                if has_grid:
                    gate = gate + affine(made.pixel_gate.position, grid)[:, head]
                weights = weights / (1 + (-gate).exp())[:, None]
            seen[n, head], assignments[n, head] = weights, shares_of_positions(weights)
            context[:, part] = weights @ values[:, part]
        out[n] = integrated(x[n], affine(made.modulation, context), options)
    return out, seen, assignments


def integrated(x: Tensor, control: Tensor, options: dict[str, Any]) -> Tensor:
    kind, norm = options.get("integration", "multiply"), options.get("norm", "layer")
    dim = {"layer": 1, "instance": 0, "none": None}[norm]
    if dim is not None and kind in ("add", "both"):
        x = x - x.mean(dim=dim, keepdim=True)
    if dim is not None and kind in ("multiply", "both"):
        x = x / (x.pow(2).mean(dim=dim, keepdim=True) + 1e-8).sqrt()
    match kind:
        case "add":
            return x + control
        case "multiply":
            return x * (1 + control)
        case _:
            return x * (1 + control[:, :WIDTH]) + control[:, WIDTH:]


BOOLEANS = (False, True)
SIMPLEX = [
    {"num_heads": heads, "component_gate": component, "pixel_gate": pixel} | places
    for heads, component, pixel, places in itertools.product(
        (1, 3),
        BOOLEANS,
        BOOLEANS,
        [{}, {"has_grid": False}, {"has_positions": False}],
    )
]
DUPLEX = [{"is_duplex": True, "clusterings": n} | options for options in SIMPLEX for n in (1, 3)]
INTEGRATIONS = [
    {"integration": kind, "norm": norm, "is_duplex": duplex}
    for kind, norm, duplex in itertools.product(
        ("multiply", "add", "both"), ("layer", "instance", "none"), BOOLEANS
    )
]


@torch.no_grad()
@pytest.mark.parametrize("options", SIMPLEX + DUPLEX + INTEGRATIONS, ids=str)
def test_every_combination_of_options_is_the_formula(options: dict[str, Any]) -> None:
    made = layer(**options)
    out, seen, assignments = made(*inputs())
    expected, weights, shares = naive(made, options)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(seen, weights, rtol=1e-4, atol=1e-6)
    if options.get("is_duplex"):
        torch.testing.assert_close(assignments, shares, rtol=1e-4, atol=1e-6)
    else:
        assert assignments is None


@torch.no_grad()
@pytest.mark.parametrize("gate", ["", "component_gate", "pixel_gate"])
def test_carried_assignments_replace_the_centroids(gate: str) -> None:
    options = {"is_duplex": True, "carries_assignments": True, "clusterings": 2}
    options |= {gate: True} if gate else {}
    _, _, carried = layer(**options)(*inputs())
    second = layer(**options, is_first=False)
    out, seen, assignments = second(*inputs(), carried=carried)
    expected = naive(second, options, carried)
    for ours, theirs in zip((out, seen, assignments), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_published_duplex_map_ignores_the_latents() -> None:
    made = layer(is_duplex=True)
    x, latents, grid, positions = inputs()
    first, other = made(x, latents, grid, positions), made(x, -latents, grid, positions)
    assert torch.equal(first[1], other[1]) and not torch.allclose(first[0], other[0])
    assert not hasattr(made, "keys") and not hasattr(made, "position_map")


def test_both_integrations_center_scale_and_move() -> None:
    made = layer(integration="both")
    x, latents, grid, positions = inputs()
    torch.nn.init.zeros_(made.modulation.weight)
    made.modulation.bias.data = torch.cat([torch.full((WIDTH,), 1.0), torch.full((WIDTH,), 5.0)])
    out = made(x, latents, grid, positions)[0]
    assert torch.allclose(out.mean(dim=-1), torch.tensor(5.0), atol=1e-5)
    assert torch.allclose(out.var(dim=-1, correction=0), torch.tensor(4.0), atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "instance", "none"])
def test_norms_act_along_their_axis(norm: str) -> None:
    made = layer(norm=norm)
    torch.nn.init.zeros_(made.modulation.weight)
    torch.nn.init.zeros_(made.modulation.bias)
    x, *rest = inputs()
    out = made(x, *rest)[0]
    if norm == "none":
        assert torch.equal(out, x)
    else:
        squares = out.square().mean(dim=-1 if norm == "layer" else 1)
        assert torch.allclose(squares, torch.ones_like(squares), atol=1e-5)


@pytest.mark.parametrize("part", ["component_gate", "pixel_gate"])
def test_a_shut_gate_hides_everything(part: str) -> None:
    made = layer(**{part: True})
    gate = getattr(made, part)
    torch.nn.init.constant_(gate.content.bias, -1e4)
    x, latents, grid, positions = inputs()
    out, seen, _ = made(x, latents, grid, positions)
    assert (seen == 0).all()
    assert torch.equal(out, made(x, 2 * latents, grid, positions)[0])


def test_carried_centroids_are_means_of_what_was_assigned() -> None:
    """With any number of components, and without mixing samples."""
    options = {"is_duplex": True, "carries_assignments": True}
    first, second = layer(**options), layer(4 * PIXELS, **options, is_first=False)
    assert first.centroids is not None and second.centroids is None
    _, _, carried = first(*inputs())
    small = carried.unflatten(-1, (4, 4)).repeat_interleave(2, -1).repeat_interleave(2, -2)
    x, latents, grid, positions = inputs(4 * PIXELS)
    out, _, _ = second(x, latents, grid, positions, carried=carried)
    content = second.queries(x)
    elements = second.split(torch.cat([content, second.grid_map(grid).expand_as(content)], -1))
    expected = small.flatten(3) @ elements
    found = second.start(elements, content, carried)
    assert torch.allclose(found, expected, atol=1e-5)
    changed = x.clone()
    changed[1] += 1
    other, _, _ = second(changed, latents, grid, positions, carried=carried)
    assert torch.equal(other[0], out[0]) and not torch.equal(other[1], out[1])


def test_dropout_keeps_the_mean_and_drops_whole_latents() -> None:
    made = layer(dropout=0.5)
    keep = torch.cat([made.draw_dropout(200) for _ in range(5)])
    assert keep.shape == (1000, 2, PIXELS, COMPONENTS)
    assert keep.mean() == pytest.approx(1, abs=0.02)
    assert (keep == 0).all(dim=2).float().mean() == pytest.approx(0.25, abs=0.03)
    assert keep.unique().tolist() == [0.0, pytest.approx(1 / 0.75**2)]
    assert layer().draw_dropout(3) is None
    x, latents, grid, positions = inputs()
    out = made(x, latents, grid, positions, keep=torch.zeros(2, 2, PIXELS, COMPONENTS))[0]
    assert torch.equal(out, made(x, 3 * latents, grid, positions, torch.zeros_like(keep[:2]))[0])


def test_the_direction_table_by_hand() -> None:
    table = direction_table(4, 3)  # one frequency: sine and cosine of the column, then of the row
    sine, cosine = math.sin(1), math.cos(1)
    torch.testing.assert_close(table[0], torch.tensor([-sine, cosine, -sine, cosine]))
    torch.testing.assert_close(table[2], torch.tensor([sine, cosine, -sine, cosine]))
    torch.testing.assert_close(table[4], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    half = direction_table(8, 3, directions=4)[8]  # at (1, 1) a diagonal is the root of two away
    expected = torch.tensor([math.sin(2**0.5), math.cos(2**0.5)])
    torch.testing.assert_close(half[2:4], expected)
