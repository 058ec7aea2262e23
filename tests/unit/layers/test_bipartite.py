import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scalegan.config.models import GANsformerConfig
from scalegan.layers.bipartite import BipartiteAttention

WIDTH, LATENT, POSITION, COMPONENTS, PIXELS = 12, 8, 4, 3, 16
CONFIG = GANsformerConfig(attention="simplex", num_heads=2, attention_dropout=0.0)


def layer(config: GANsformerConfig = CONFIG, pixels: int = PIXELS, **flags: bool):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    made = BipartiteAttention(config, WIDTH, LATENT, POSITION, COMPONENTS, pixels, **flags)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):  # zero at the start, where it would hide
            torch.nn.init.normal_(parameter)
    return made


def inputs(pixels: int = PIXELS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = (2, pixels, WIDTH), (2, COMPONENTS, LATENT), (pixels, POSITION), (COMPONENTS, POSITION)
    x, latents, grid, positions = (torch.randn(shape, generator=rng) for shape in shapes)
    return x, latents, grid, positions


def naive(made: BipartiteAttention) -> tuple[Tensor, Tensor]:
    """One sample, head, position and latent after the other."""
    x, latents, grid, positions = inputs()
    heads, width = made.config.num_heads, WIDTH // made.config.num_heads
    out, seen = torch.empty_like(x), torch.empty(2, heads, PIXELS, COMPONENTS)
    for n in range(2):
        for t in range(PIXELS):
            content = made.queries(x[n, t])
            place = made.grid_map(grid[t])
            context = torch.empty(WIDTH)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = []
                for k in range(COMPONENTS):
                    if made.is_duplex:
                        both = slice(2 * head * width, 2 * (head + 1) * width)
                        element = torch.cat([content, place])[both] * made.element_weight[head, 0]
                        scores.append(element @ made.centroids[0, head, k])
                    else:
                        key = made.keys(latents[n, k]) + made.position_map(positions[k])
                        scores.append((content + place)[part] @ key[part])
                weights = (torch.stack(scores) / math.sqrt(width)).softmax(0)
                seen[n, head, t] = weights
                values = made.values(latents[n])[:, part]
                context[part] = weights @ values
            normal = x[n, t] / (x[n, t].square().mean() + 1e-8).sqrt()
            out[n, t] = normal * (1 + made.modulation(context))
    return out, seen


@pytest.mark.parametrize("kind", ["simplex", "duplex"])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_layer_is_the_naive_loop(kind: str, heads: int) -> None:
    made = layer(replace(CONFIG, attention=kind, num_heads=heads))  # type: ignore[arg-type]
    out, seen, assignments = made(*inputs())
    expected, weights = naive(made)
    assert torch.allclose(out, expected, atol=1e-5) and torch.allclose(seen, weights, atol=1e-6)
    assert (assignments is None) == (kind == "simplex")
    if assignments is not None:  # each centroid shares itself among the positions
        assert torch.allclose(assignments.sum(dim=-1), torch.ones(2, heads, COMPONENTS))


def test_the_published_duplex_map_ignores_the_latents() -> None:
    made = layer(replace(CONFIG, attention="duplex"))
    x, latents, grid, positions = inputs()
    first, other = made(x, latents, grid, positions), made(x, -latents, grid, positions)
    assert torch.equal(first[1], other[1]) and not torch.allclose(first[0], other[0])
    assert not hasattr(made, "keys") and not hasattr(made, "position_map")


def test_both_integrations_centre_scale_and_move() -> None:
    made = layer(replace(CONFIG, integration="both"))
    x, latents, grid, positions = inputs()
    torch.nn.init.zeros_(made.modulation.weight)
    made.modulation.bias.data = torch.cat([torch.full((WIDTH,), 1.0), torch.full((WIDTH,), 5.0)])
    out = made(x, latents, grid, positions)[0]
    assert torch.allclose(out.mean(dim=-1), torch.tensor(5.0), atol=1e-5)
    assert torch.allclose(out.var(dim=-1, correction=0), torch.tensor(4.0), atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "instance", "none"])
def test_norms_act_along_their_axis(norm: str) -> None:
    made = layer(replace(CONFIG, norm=norm))  # type: ignore[arg-type]
    torch.nn.init.zeros_(made.modulation.weight)
    torch.nn.init.zeros_(made.modulation.bias)
    x, *rest = inputs()
    out = made(x, *rest)[0]
    if norm == "none":
        assert torch.equal(out, x)
    else:
        squares = out.square().mean(dim=-1 if norm == "layer" else 1)
        assert torch.allclose(squares, torch.ones_like(squares), atol=1e-5)


@pytest.mark.parametrize("kind", ["simplex", "duplex"])
def test_a_masked_latent_is_not_seen(kind: str) -> None:
    made, mask = layer(replace(CONFIG, attention=kind)), torch.ones(2, COMPONENTS)  # type: ignore[arg-type]
    mask[1, 2] = 0
    seen = made(*inputs(), mask=mask)[1]
    assert (seen[1, ..., 2] == 0).all() and (seen[0, ..., 2] > 0).all()
    assert torch.allclose(seen.sum(dim=-1), torch.ones(2, 2, PIXELS))


@pytest.mark.parametrize("part", ["component_gate", "pixel_gate"])
def test_a_shut_gate_hides_everything(part: str) -> None:
    made = layer(replace(CONFIG, **{part: True}))
    gate = getattr(made, part)
    torch.nn.init.constant_(gate.content.bias, -1e4)
    x, latents, grid, positions = inputs()
    out, seen, _ = made(x, latents, grid, positions)
    assert (seen == 0).all()
    assert torch.equal(out, made(x, 2 * latents, grid, positions)[0])


def test_carried_centroids_are_means_of_what_was_assigned() -> None:
    """With any number of components, and without mixing samples (quirk 2 of the reference)."""
    config = replace(CONFIG, attention="duplex", carries_assignments=True)
    first, second = layer(config), layer(config, 4 * PIXELS, is_first=False)
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
    made = layer(replace(CONFIG, attention_dropout=0.5))
    keep = torch.cat([made.draw(200) for _ in range(5)])
    assert keep.shape == (1000, 2, PIXELS, COMPONENTS)
    assert keep.mean() == pytest.approx(1, abs=0.02)
    assert (keep == 0).all(dim=2).float().mean() == pytest.approx(0.25, abs=0.03)
    assert keep.unique().tolist() == [0.0, pytest.approx(1 / 0.75**2)]
    assert layer().draw(3) is None
    x, latents, grid, positions = inputs()
    out = made(x, latents, grid, positions, keep=torch.zeros(2, 2, PIXELS, COMPONENTS))[0]
    assert torch.equal(out, made(x, 3 * latents, grid, positions, torch.zeros_like(keep[:2]))[0])
