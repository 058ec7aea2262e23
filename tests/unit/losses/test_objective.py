from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.config.objective import (
    AlignmentConfig,
    AugmentConfig,
    NoiseConfig,
    ObjectiveConfig,
    PathLengthConfig,
    PenaltyConfig,
)
from scalegan.interfaces import Discriminator
from scalegan.losses.objective import Objective
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.gat import GATDiscriminator
from tests.support import tiny
from tests.support.networks import Painter, Recorder

REAL, FAKE = torch.randn(4, 1, 1, 8, 8), torch.randn(4, 4, 1, 8, 8)
ALIGNED = AlignmentConfig(weight=0.5, features=5, side=12)


def objective(penalty: PenaltyConfig | None = None, **parts: Any) -> Objective:
    config = ObjectiveConfig(penalty=penalty or PenaltyConfig(r1=0.0, r2=0.0), **parts)
    aligned = config.alignment.weight > 0
    return Objective(config, ADVERSARIAL["relativistic"], 4, tiny.teacher if aligned else None)


def make_discriminator(features: int = 0) -> GATDiscriminator:
    torch.manual_seed(0)
    return GATDiscriminator(tiny.MODEL, (1, 8, 8), tiny.NUM_CLASSES, features)


def terms(of: Objective, discriminator: GATDiscriminator, step: int = 0) -> tuple[dict, dict]:
    torch.manual_seed(1)
    return of.discriminator_terms(discriminator, REAL, FAKE, tiny.batch(with_images=True), step)


def turn(
    of: Objective, discriminator: Discriminator, real: Tensor, fake: Tensor, step: int = 0
) -> tuple[dict, dict]:
    """The generator's turn, of a generator that no term looks at."""
    return of.generator_terms(Painter(), discriminator, real, fake, tiny.batch(), step)


def test_terms_by_name() -> None:
    everything = objective(PenaltyConfig(), alignment=ALIGNED)
    losses, watched = terms(everything, make_discriminator(features=5))
    assert list(losses) == ["d/adversarial", "d/r1_penalty", "d/r2_penalty", "d/alignment"]
    assert list(watched) == ["d/real_logits", "d/fake_logits", "d/r1", "d/r2"]
    for value in [*losses.values(), *watched.values()]:
        assert value.shape == (4,)
    assert not any(value.requires_grad for value in watched.values())


def test_zero_weights_leave_the_adversarial_loss_alone() -> None:
    discriminator = make_discriminator()
    of = objective()
    losses, watched = terms(of, discriminator)
    assert list(losses) == ["d/adversarial"]
    torch.manual_seed(1)  # the fake view is drawn before the real one
    fake_view, real_view = of.view(FAKE), of.view(REAL)
    labels = tiny.batch().labels
    logits = discriminator(torch.cat([real_view(REAL), fake_view(FAKE)]), labels.repeat(2)).logits
    expected = ADVERSARIAL["relativistic"].discriminator(*logits.chunk(2))
    assert torch.equal(losses["d/adversarial"], expected)
    assert torch.equal(watched["d/real_logits"], logits[:4, 0].detach())


def test_with_balanced_consistency_no_other_term_sees_augmented_samples() -> None:
    calm = NoiseConfig(min_information=1.0, floor=0.0)
    recorder, of = Recorder(), objective(noise=calm, consistency=0.3)
    real, labels = REAL.expand(-1, 4, -1, -1, -1), tiny.batch().labels
    torch.manual_seed(0)
    losses, _ = of.discriminator_terms(recorder, REAL, FAKE, tiny.batch(), 0)
    (plain, _, _), (augmented, told, _) = recorder.calls
    assert torch.equal(plain, torch.cat([real, FAKE])) and torch.equal(told, labels.repeat(2))
    assert not torch.isclose(plain, augmented).flatten(1).all(dim=1).any()
    moved = [(a - b)[:, -1].mean(dim=(1, 2, 3)).square() for a, b in
             zip(plain.chunk(2), augmented.chunk(2), strict=True)]  # fmt: skip
    torch.testing.assert_close(losses["d/consistency"], 0.3 * (moved[0] + moved[1]))
    recorder.calls.clear()
    turn(of, recorder, REAL, FAKE)
    assert torch.equal(recorder.calls[0][0], FAKE), "the generator is not augmented either"


@pytest.mark.parametrize(("r1", "r2"), [(0.4, 0.0), (0.0, 0.6), (0.4, 0.6)])
def test_penalties_are_half_the_strength_times_the_squared_slope(r1: float, r2: float) -> None:
    losses, watched = terms(objective(PenaltyConfig(r1=r1, r2=r2)), make_discriminator())
    torch.testing.assert_close(losses["d/r1_penalty"].detach(), r1 / 2 * watched["d/r1"])
    torch.testing.assert_close(losses["d/r2_penalty"].detach(), r2 / 2 * watched["d/r2"])
    assert watched["d/r1"].min() > 0 and watched["d/r2"].min() > 0


def test_penalties_are_due_only_every_so_many_steps() -> None:
    discriminator, of = make_discriminator(), objective(PenaltyConfig(every=3))
    due = [step for step in range(7) if "d/r1_penalty" in terms(of, discriminator, step)[0]]
    assert due == [0, 3, 6]
    later = terms(of, discriminator, 1)[0]["d/adversarial"]
    torch.testing.assert_close(later, terms(of, discriminator, 0)[0]["d/adversarial"])


def test_a_share_of_the_batch_is_penalized_in_its_place() -> None:
    whole, some = PenaltyConfig(r1=1.0, r2=1.0), PenaltyConfig(r1=1.0, r2=1.0, share=0.5)
    recorder = Recorder()
    objective(some).discriminator_terms(recorder, REAL, FAKE, tiny.batch(), 0)
    shown, labels, _ = recorder.calls[0]
    assert len(shown) == 4 + 4 + 2 + 2
    assert torch.equal(labels, torch.cat([tiny.batch().labels[:n] for n in (4, 4, 2, 2)]))
    # Moved by nothing, the shown samples are those of the pass without moves, in the same view.
    still = replace(some, sigma=1e-6)
    objective(still).discriminator_terms(recorder, REAL, FAKE, tiny.batch(), 0)
    real, fake, moved_real, moved_fake = recorder.calls[1][0].split([4, 4, 2, 2])
    torch.testing.assert_close(moved_real, real[:2], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved_fake, fake[:2], atol=1e-4, rtol=0)
    # Twice as much of half of them: the batch mean is the mean over those that were measured.
    losses, watched = terms(objective(some), make_discriminator())
    assert losses["d/r1_penalty"][2:].tolist() == [0.0, 0.0] and (watched["d/r1"][:2] > 0).all()
    full = terms(objective(whole), make_discriminator())[1]["d/r1"]
    torch.testing.assert_close(watched["d/r1"][:2], 2 * full[:2])  # the first draws are the same


def test_penalties_move_before_augmenting_and_keep_the_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scalegan.losses.objective.draw_moves", torch.zeros_like)
    recorder = Recorder()
    _, watched = objective(PenaltyConfig()).discriminator_terms(
        recorder, REAL, FAKE, tiny.batch(), 0
    )
    real, fake, moved_real, moved_fake = recorder.calls[0][0].chunk(4)
    assert torch.equal(real, moved_real) and torch.equal(fake, moved_fake)
    assert not watched["d/r1"].any() and not watched["d/r2"].any()


def test_real_levels_are_moved_alike_and_fake_ones_apart() -> None:
    calm = NoiseConfig(min_information=1.0, floor=0.0)
    still = replace(ObjectiveConfig().augment, color=0.0, translation=0.0, cutout=0.0, flip=0.0)
    recorder = Recorder()
    objective(PenaltyConfig(sigma=0.5), noise=calm, augment=still).discriminator_terms(
        recorder, REAL, FAKE, tiny.batch(), 0
    )
    real, fake, moved_real, moved_fake = recorder.calls[0][0].chunk(4)
    move_real, move_fake = moved_real - real, moved_fake - fake
    assert move_real.std().item() == pytest.approx(0.5, rel=0.2)
    torch.testing.assert_close(move_real, move_real[:, :1].expand_as(move_real))
    assert (move_fake[:, 0] - move_fake[:, 1]).std().item() == pytest.approx(0.5 * 2**0.5, rel=0.2)


@pytest.mark.parametrize("aligned", [False, True])
def test_one_batch_of_all_passes_equals_separate_passes(aligned: bool) -> None:
    of = objective(PenaltyConfig(), alignment=ALIGNED if aligned else AlignmentConfig())
    discriminator = make_discriminator(features=5 if aligned else 0)
    shown = [torch.randn(4, 4, 1, 8, 8) for _ in range(4)]
    batch = tiny.batch()
    logits, features = of.logits_of(discriminator, shown, batch)
    assert (features is not None) == aligned
    for together, samples in zip(logits, shown, strict=True):
        torch.testing.assert_close(together, discriminator(samples, batch.labels).logits)


def test_alignment_is_weighted_and_of_the_real_view() -> None:
    recorder, seen = Recorder(), []

    def teacher(images: Tensor) -> Tensor:
        seen.append(images)
        return -torch.ones(len(images), 5, 5)

    of = objective(alignment=ALIGNED)
    of.teacher = teacher
    losses, _ = of.discriminator_terms(recorder, REAL, FAKE, tiny.batch(with_images=True), 0)
    # Opposite features: a distance of 2 for the class token and 2 for the patches.
    torch.testing.assert_close(losses["d/alignment"], torch.full((4,), 0.5 * 4))
    assert [with_features for _, _, with_features in recorder.calls] == [True, False]
    assert seen[0].shape == (4, 3, 12, 12)


def test_generator_terms_send_gradients_through_the_fake_alone() -> None:
    discriminator = make_discriminator().requires_grad_(False)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    losses, watched = turn(objective(PenaltyConfig()), discriminator, real, fake)
    assert list(losses) == ["g/adversarial"] and not watched
    losses["g/adversarial"].sum().backward()
    assert real.grad is None
    assert (fake.grad.flatten(2).abs().amax(2) > 0).all(), "every level of every sample"


def test_exact_penalties_are_taken_at_what_is_shown() -> None:
    def slope_of(penalty: PenaltyConfig) -> tuple[dict, dict]:
        torch.manual_seed(1)
        return objective(penalty).discriminator_terms(Recorder(), REAL, FAKE, tiny.batch(), step=0)

    losses, watched = slope_of(PenaltyConfig(kind="exact", r1=0.5, r2=0.0))
    # The logit is the mean of the finest level's 64 values.
    torch.testing.assert_close(watched["d/r1"], torch.full((4,), 1 / 64))
    torch.testing.assert_close(losses["d/r1_penalty"], torch.full((4,), 0.25 / 64))
    assert "d/r2" not in watched and "d/r2_penalty" not in losses
    both = slope_of(PenaltyConfig(kind="exact", r1=0.5, r2=1.0))[0]
    torch.testing.assert_close(both["d/r2_penalty"], torch.full((4,), 0.5 / 64))


def test_lazy_penalties_make_up_for_the_steps_between() -> None:
    penalties = [PenaltyConfig("exact", 0.5, 0.0, every, lazy=every > 1) for every in (1, 8)]
    each, lazy = (
        terms(objective(penalty), make_discriminator())[0]["d/r1_penalty"] for penalty in penalties
    )
    torch.testing.assert_close(lazy, 8 * each)
    assert "d/r1_penalty" not in terms(objective(penalties[1]), make_discriminator(), step=7)[0]


def test_exact_and_finite_differences_agree_on_a_linear_discriminator() -> None:
    found = []
    for kind in ("exact", "finite-difference"):
        of = objective(PenaltyConfig(kind=kind), noise=NoiseConfig(1.0, 0.0))
        still = replace(of.config.augment, color=0.0, translation=0.0, cutout=0.0, flip=0.0)
        of.config = replace(of.config, augment=still)
        torch.manual_seed(2)
        draws = [
            of.discriminator_terms(Recorder(), REAL, FAKE, tiny.batch(), 0)[1]["d/r1"].mean()
            for _ in range(300)
        ]
        found.append(torch.stack(draws).mean().item())
    assert found[0] == pytest.approx(found[1], rel=0.2)  # 1,200 draws of a squared normal


def test_apart_real_and_fake_pass_one_after_the_other() -> None:
    together, apart = Recorder(), Recorder()
    for recorder, is_joint in ((together, True), (apart, False)):
        terms(objective(joint_batch=is_joint), recorder)
    assert [len(call[0]) for call in together.calls] == [8]
    assert [len(call[0]) for call in apart.calls] == [4, 4]
    torch.testing.assert_close(together.calls[0][0][:4], apart.calls[0][0])
    torch.testing.assert_close(together.calls[0][0][4:], apart.calls[1][0])


@pytest.mark.parametrize("paired", [False, True])
def test_a_pair_may_have_one_augmentation(paired: bool) -> None:
    calm = NoiseConfig(min_information=1.0, floor=0.0)
    of = objective(noise=calm, augment=AugmentConfig(paired=paired))
    same, recorder = FAKE[:, -1:].expand(-1, 4, -1, -1, -1), Recorder()
    of.discriminator_terms(recorder, FAKE[:, -1:], same, tiny.batch(), 0)
    real, fake = recorder.calls[0][0].chunk(2)
    turn(of, recorder, FAKE[:, -1:], same)
    assert torch.equal(real, fake) == paired
    assert torch.equal(recorder.calls[1][0], recorder.calls[2][0]) == paired


def test_centering_is_the_mean_square_of_the_sum_of_a_pair() -> None:
    discriminator, of = make_discriminator(), objective(centering=0.5)
    losses, watched = terms(of, discriminator)
    total = watched["d/real_logits"] + watched["d/fake_logits"]
    torch.testing.assert_close(losses["d/centering"].detach(), 0.5 * total.square())
    assert losses["d/centering"].requires_grad


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_real_samples_are_judged_only_where_the_loss_looks_at_them(name: str) -> None:
    recorder = Recorder()
    of = Objective(ObjectiveConfig(), ADVERSARIAL[name], 4)
    assert list(turn(of, recorder, REAL, FAKE)[0]) == ["g/adversarial"]
    assert len(recorder.calls) == 1


def test_path_lengths_are_compared_with_their_running_mean() -> None:
    of = objective(path_length=PathLengthConfig(weight=2.0, every=4, decay=0.5, share=0.5))
    args = (Painter(), Recorder(), REAL, FAKE, tiny.batch())
    losses, watched = of.generator_terms(*args, 0)
    mean = of.memory["path_length"].clone()
    assert mean.item() == pytest.approx(watched["g/path_length"][0].item() / 2)
    assert losses["g/path_length_penalty"].shape == (4,) and losses["g/path_length_penalty"][0] > 0
    assert list(of.generator_terms(*args, 1)[0]) == ["g/adversarial"], "due every fourth step"
    assert torch.equal(of.memory["path_length"], mean)


def test_the_orthogonal_term_is_of_the_weights_that_the_generator_names() -> None:
    losses, watched = objective(orthogonal=0.5).generator_terms(
        Painter(), Recorder(), REAL, FAKE, tiny.batch(), 0
    )
    assert watched["g/orthogonality"].tolist() == [9.0] * 4  # the product of the rows is 3
    assert losses["g/orthogonal"].tolist() == [4.5] * 4


def test_generator_is_rewarded_for_a_higher_fake_logit() -> None:
    fake = FAKE.clone().requires_grad_()
    losses, _ = turn(objective(), Recorder(), REAL, fake)
    losses["g/adversarial"].sum().backward()
    still = fake.grad[:, -1].sum(dim=(1, 2, 3))
    lowers = turn(objective(), Recorder(), REAL + 10, FAKE)[0]
    raises = turn(objective(), Recorder(), REAL, FAKE + 10)[0]
    assert raises["g/adversarial"].sum() < lowers["g/adversarial"].sum()
    assert still.isfinite().all()
