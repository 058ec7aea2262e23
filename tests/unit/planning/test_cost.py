from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scalegan.config.models import GAT_SIZES, GATConfig
from scalegan.config.objective import AlignmentConfig, ObjectiveConfig, PenaltyConfig
from scalegan.config.schema import Config, TrainConfig
from scalegan.planning.cost import Counts, Task, activations, count
from tests.support import tiny

LATENTS = Task((4, 32, 32), 1000, 1_281_167, 256)
IMAGES = Task((1, 8, 8), tiny.NUM_CLASSES, 24, 8)
ALIGNED = ObjectiveConfig(alignment=AlignmentConfig(weight=1.0, features=768))
# GMAC of one forward pass: size, patch, generator without its dead patch embedding, discriminator
# aligned with 768 features (sizes of arXiv 2509.24935).
PUBLISHED = [
    ("S", 2, 6.054, 7.766),
    ("S", 4, 1.411, 1.861),
    ("S", 8, 0.356, 0.491),
    ("B", 2, 22.995, 24.955),
    ("B", 4, 5.555, 6.098),
    ("B", 8, 1.408, 1.597),
    ("L", 2, 80.641, 82.894),
    ("L", 4, 19.648, 20.372),
    ("L", 8, 4.966, 5.308),
    ("XL", 2, 118.554, 120.977),
    ("XL", 4, 28.977, 29.814),
    ("XL", 8, 7.325, 7.767),
]


def of_size(size: str, patch: int, objective: ObjectiveConfig) -> Config:
    width, depth, num_heads = GAT_SIZES[size]
    model = GATConfig(width=width, depth=depth, num_heads=num_heads, patch_size=patch)
    return Config(model=model, objective=objective)


def closed_forms(model: GATConfig, features: int) -> tuple[int, int]:
    """Multiply-accumulates of G and D, layer by layer.

    The generator's are without the dead patch embedding; without features our discriminator's last
    block makes the class token alone.
    """
    width, depth, patch = model.width, model.depth, 4 * model.patch_size**2
    tokens, hidden = (32 // model.patch_size) ** 2, int(2 / 3 * 4 * width)
    label, inner, seen = 2048, 2048, tokens + 1
    feedforward, projections = 3 * width * hidden, 4 * width**2
    generator = 128 * width + width**2 + 4 * (tokens * width * patch + width**2)
    block = tokens * (projections + feedforward) + 2 * tokens**2 * width
    generator += depth * (block + 4 * width**2)
    block = seen * (projections + feedforward) + 2 * seen**2 * width
    discriminator = tokens * 4 * patch * width + 2 * label**2 + label * width
    if features:
        discriminator += depth * block + seen * (inner * width + inner**2 + inner * features)
    else:
        first_only = 2 * width**2 + 2 * seen * width**2 + 2 * seen * width + feedforward
        discriminator += (depth - 1) * block + first_only
    return generator, discriminator


@pytest.mark.parametrize(("size", "patch", "generator", "discriminator"), PUBLISHED)
def test_closed_forms_are_the_published_figures(
    size: str, patch: int, generator: float, discriminator: float
) -> None:
    found = closed_forms(of_size(size, patch, ALIGNED).model, 768)
    assert [round(number / 1e9, 3) for number in found] == [generator, discriminator]


SMALL = GATConfig(width=72, depth=8, num_heads=3, patch_size=4)
SLOW = [pytest.param(*sizes, marks=pytest.mark.slow) for sizes in (("S", 2), ("B", 4), ("XL", 8))]


@pytest.mark.parametrize("features", [0, 768])
@pytest.mark.parametrize(("size", "patch"), [("", 4), ("", 2), *SLOW])
def test_counted_operations_are_the_closed_forms(size: str, patch: int, features: int) -> None:
    objective = ALIGNED if features else ObjectiveConfig()
    config = Config(model=replace(SMALL, patch_size=patch), objective=objective)
    if size:
        config = of_size(size, patch, objective)
    counts = count(config, LATENTS)
    expected = tuple(2 * number for number in closed_forms(config.model, features))
    assert (counts.generator_forward, counts.discriminator_forward) == expected


def test_a_step_is_about_three_generators_and_fifteen_discriminators() -> None:
    """4 G + 15 D, of which one G is saved where noise is shared."""
    counts = count(Config(model=SMALL), LATENTS)
    units = 3 * counts.generator_forward + 15 * counts.discriminator_forward
    assert counts.step == pytest.approx(units, rel=0.02)
    without = ObjectiveConfig(penalty=PenaltyConfig(r1=0.0, r2=0.0))
    fewer = count(Config(model=SMALL, objective=without), LATENTS)
    assert counts.step - fewer.step == pytest.approx(6 * counts.discriminator_forward, rel=0.02)


def test_a_penalty_on_a_quarter_of_the_batch_costs_a_quarter() -> None:
    train = TrainConfig(batch_size=8)
    quarter = ObjectiveConfig(penalty=PenaltyConfig(share=0.25))
    whole = count(Config(model=SMALL, train=train), LATENTS)
    fewer = count(Config(model=SMALL, train=train, objective=quarter), LATENTS)
    saved = 0.75 * 6 * whole.discriminator_forward
    assert whole.step - fewer.step == pytest.approx(saved, rel=0.02)
    assert whole[:5] == fewer[:5]


def test_published_numbers_of_parameters() -> None:
    counts = count(of_size("S", 2, ALIGNED), LATENTS)
    dead = 4 * 4 * 384 + 384  # the generator's patch embedding, which we leave out
    buffers = 1000 * 384 + 1000  # class means and how often they moved
    assert counts.generator == 29_361_344 - dead + buffers
    assert counts.discriminator == 39_212_928


def test_a_named_teacher_is_counted() -> None:
    named = ObjectiveConfig(alignment=AlignmentConfig(weight=1.0, teacher="dinov2-b", features=768))
    with_teacher = count(Config(model=SMALL, objective=named), LATENTS)
    without = count(Config(model=SMALL, objective=ALIGNED), LATENTS)
    assert isinstance(with_teacher, Counts) and without.teacher == 0
    assert with_teacher.teacher == pytest.approx(86e6, rel=0.01)
    # ViT-B: 12 blocks of 12 W^2 T + 2 T^2 W multiply-accumulates, and the patches.
    macs = 12 * (12 * 257 * 768**2 + 2 * 257**2 * 768) + 256 * 3 * 14**2 * 768
    assert with_teacher.step - without.step == 2 * macs


class Watch:
    """Real tensors that autograd keeps during real steps, by turn."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        parts = [t for n in networks for t in [*n.parameters(), *n.buffers()]]
        self.own = {part.untyped_storage()._cdata for part in parts}
        self.alive: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in self.own:
            self.alive[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def take(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.alive.values())


@pytest.mark.parametrize(
    ("precision", "micro_batches", "is_aligned"),
    [("float32", 1, False), ("bfloat16", 1, True), ("float32", 2, True), ("bfloat16", 2, False)],
)
def test_predicted_bytes_are_those_of_a_real_turn(
    precision: str, micro_batches: int, is_aligned: bool
) -> None:
    """Within 2% of what a discriminator's turn on a micro-batch of 12 really keeps."""
    from scalegan.train.step import discriminator_terms

    parts = {"alignment": AlignmentConfig(weight=1.0, features=5, side=28)} if is_aligned else {}
    train = TrainConfig(precision=precision, micro_batches=micro_batches)  # type: ignore[arg-type]
    config = tiny.config(train=train, objective=ObjectiveConfig(**parts))  # type: ignore[arg-type]
    state = tiny.state(config, teacher=tiny.teacher if is_aligned else None)
    share = [tiny.batch(12, with_images=True)] * micro_batches
    turn = state.begin("discriminator", share, 0)
    watch = Watch(state.generator, state.discriminator)
    hooks = torch.autograd.graph.saved_tensors_hooks(watch.pack, lambda tensor: tensor)
    with hooks, state.autocast():
        terms = discriminator_terms(state, turn, share[0], 0)
    predicted = activations(config, IMAGES, keeps_fake=turn.reuses_fakes).at(12)
    assert turn.reuses_fakes == (micro_batches == 1)
    if micro_batches == 1:
        assert predicted == pytest.approx(watch.take(), rel=0.02)
    else:  # the generator's turn may keep more
        assert predicted >= 0.98 * watch.take()
    assert terms.losses


def test_recomputing_keeps_less_and_both_grow_with_the_batch() -> None:
    config = Config(model=SMALL)
    kept = activations(config, LATENTS, keeps_fake=True)
    some, least = (activations(config, LATENTS, True, mode) for mode in ("selective", "full"))
    assert 0 < least.per_image < kept.per_image / 3
    assert least.per_image < some.per_image < 0.7 * kept.per_image
    assert kept.at(8) - kept.at(4) == 4 * kept.per_image
    cut = activations(config, LATENTS, keeps_fake=False)
    assert cut.per_image < kept.per_image


def test_reduced_precision_keeps_fewer_bytes_per_image() -> None:
    config = Config(model=SMALL)
    exact = activations(config, LATENTS, keeps_fake=True)
    train = TrainConfig(precision="bfloat16")
    rounded = activations(replace(config, train=train), LATENTS, keeps_fake=True)
    assert 0.5 < rounded.per_image / exact.per_image < 0.9
    assert rounded.fixed > exact.fixed  # copies of the weights in 16 bits
