"""All loss terms of both networks, by name; the parts are in the files beside this one.

A term whose strength is zero adds nothing. Sources: GAT (arXiv 2509.24935, v1); LadaGAN
(2401.09596), BigGAN (1809.11096) and GANsformer (2103.01209) for what they add.
"""

from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scalegan.config.objective import AugmentConfig, ObjectiveConfig
from scalegan.interfaces import (
    Batch,
    Discriminator,
    Generator,
    Labels,
    Levels,
    LevelsOrOne,
    Teacher,
    Terms,
    WantsOrthogonalWeights,
)
from scalegan.losses import mng
from scalegan.losses.adversarial import Pair
from scalegan.losses.alignment import alignment, teacher_input
from scalegan.losses.levels import diagnostics, disagreement
from scalegan.losses.penalties import (
    draw_moves,
    exact,
    finite_difference,
    inconsistency,
    nearby,
    off_center,
    orthogonality,
    path_lengths,
)
from scalegan.losses.view import View, draw_view

UNTOUCHED = AugmentConfig(color=0.0, translation=0.0, cutout=0.0, flip=0.0)


class Objective:
    """The two objectives of a run.

    Args:
        config: strengths and kinds of the terms.
        adversarial: the pair of losses that `config.adversarial` names.
        num_levels: levels of the generator.
        teacher: frozen features of normalized images; needed where there is alignment.
        device: of what terms remember.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        adversarial: Pair,
        num_levels: int,
        teacher: Teacher | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self.adversarial = adversarial
        noise = config.noise
        self.noise_levels = mng.noise_schedule(
            num_levels, noise.min_information, noise.floor, noise.schedule
        )
        if config.supervision == "scales":
            self.noise_levels = torch.zeros_like(self.noise_levels)
        self.teacher = teacher
        names = ["path_length"] if config.path_length.weight > 0 else []
        self.memory = {name: torch.zeros((), device=device) for name in names}
        """What terms remember from step to step; saved with a checkpoint."""

    def discriminator_terms(
        self,
        discriminator: Discriminator,
        real: LevelsOrOne,
        fake: Levels,
        batch: Batch,
        step: int,
    ) -> Terms:
        """Terms of the discriminator's turn.

        Args:
            real: one level that stands for all.
            fake: detached from the generator.
            step: decides whether penalties are due.
        """
        fake_view = self.view(fake)
        real_view = self.view(real, fake_view)
        shown = [real_view(real), fake_view(fake)]
        penalty = self.config.penalty
        is_due = (penalty.r1 > 0 or penalty.r2 > 0) and step % penalty.every == 0
        if is_due and penalty.kind == "exact":  # the gradient is taken at what is shown
            shown = [samples.detach().requires_grad_() for samples in shown]
        elif is_due:  # moved before it is augmented, and shown in the same view
            some = ceil(penalty.share * len(fake))
            for view, samples in ((real_view, real[:some]), (fake_view, fake[:some])):
                moved = nearby(samples, draw_moves(samples), penalty.sigma)
                shown.append(view.of_first(some)(moved))
        logits, features = self.logits_of(discriminator, shown, batch)
        losses = {"d/adversarial": self.adversarial.discriminator(logits[0], logits[1])}
        watched = {"d/real_logits": logits[0].mean(1), "d/fake_logits": logits[1].mean(1)}
        if is_due:
            slopes = self.squared_slopes(logits, shown)
            times = penalty.every if penalty.lazy else 1
            for name, strength in (("d/r1", penalty.r1), ("d/r2", penalty.r2)):
                if name in slopes:
                    losses[f"{name}_penalty"] = times * strength / 2 * slopes[name]
            watched |= slopes
        if self.config.centering > 0:
            losses["d/centering"] = self.config.centering * off_center(logits[0], logits[1])
        if self.config.consistency > 0:
            apart = self.inconsistency(discriminator, real, fake, logits, batch.labels)
            losses["d/consistency"] = self.config.consistency * apart
        if features is not None:
            token, patches = alignment(features, self.teach(real_view, batch))
            losses["d/alignment"] = self.config.alignment.weight * (token + patches)
        return Terms(losses, {name: value.detach() for name, value in watched.items()})

    def squared_slopes(
        self, logits: list[Float[Tensor, "_ K"]], shown: list[Float[Tensor, "_ L C H W"]]
    ) -> dict[str, Float[Tensor, " N"]]:
        """R1 on real and R2 on fake samples; exact, only where the strength is not zero."""
        penalty = self.config.penalty
        if penalty.kind == "exact":
            strengths = {"d/r1": penalty.r1, "d/r2": penalty.r2}
            return {
                name: exact(logits[i], shown[i])
                for i, (name, strength) in enumerate(strengths.items())
                if strength > 0
            }
        slopes = {}
        for name, here, moved in (("d/r1", 0, 2), ("d/r2", 1, 3)):
            some, count = len(logits[moved]), len(logits[here])
            slope = finite_difference(logits[here][:some], logits[moved], penalty.sigma)
            # The batch mean of this is the mean over those that were measured.
            slopes[name] = F.pad(slope * (count / some), (0, count - some))
        return slopes

    def generator_terms(
        self,
        generator: Generator,
        discriminator: Discriminator,
        real: LevelsOrOne,
        fake: Levels,
        batch: Batch,
        step: int,
    ) -> Terms:
        """Terms of the generator's turn: fresh views, and gradients only through the fake.

        Args:
            generator: for the terms on its weights and its slope.
            real: one level that stands for all.
            step: decides whether the path length is due.
        """
        fake_view = self.view(fake)
        logits = [discriminator(fake_view(fake), batch.labels).logits]
        if self.adversarial.is_paired:
            with torch.no_grad():
                shown = self.view(real, fake_view)(real)
                logits.insert(0, discriminator(shown, batch.labels).logits)
        losses = {"g/adversarial": self.adversarial.generator(*logits)}
        watched = diagnostics(fake) if self.config.supervision == "scales" else {}
        if self.config.level_consistency > 0:
            apart = disagreement(fake)
            losses["g/level_consistency"] = self.config.level_consistency * apart
        if self.config.orthogonal > 0:
            assert isinstance(generator, WantsOrthogonalWeights), "checked when the state is built"
            watched["g/orthogonality"] = orthogonality(generator.orthogonal_weights())
            losses["g/orthogonal"] = self.config.orthogonal * watched["g/orthogonality"]
        path = self.config.path_length
        if path.weight > 0 and step % path.every == 0:
            lengths = self.path_lengths(generator, batch.labels)
            watched["g/path_length"] = lengths.mean()
            uneven = (lengths - self.memory["path_length"]).square().mean()
            losses["g/path_length_penalty"] = path.every * path.weight * uneven
        count = len(fake)
        return Terms(
            {name: value.expand(count) for name, value in losses.items()},
            {name: value.detach().expand(count) for name, value in watched.items()},
        )

    def path_lengths(self, generator: Generator, labels: Labels) -> Float[Tensor, " M"]:
        """Path lengths of fresh styles; their running mean moves before it is compared with."""
        path = self.config.path_length
        labels = labels[: max(1, round(path.share * len(labels)))]
        z = torch.randn(len(labels), *generator.z_shape).to(labels.device)
        w = generator.map(z, labels)
        images = generator.synthesize(w)[:, -1]
        lengths = path_lengths(images, w, torch.randn(images.shape).to(images))
        mean = self.memory["path_length"]
        mean.copy_(torch.lerp(lengths.detach().mean(), mean.to(lengths), path.decay))
        return lengths

    def view(self, samples: LevelsOrOne, partner: View | None = None) -> View:
        """A random view of samples; of a pair with one augmentation the partner's, other noise."""
        is_balanced = self.config.consistency > 0  # then augmented views are a term of their own
        augment = UNTOUCHED if is_balanced else self.config.augment
        draws = partner.draws if partner and augment.paired else None
        return draw_view(samples, self.noise_levels, augment, draws)

    def inconsistency(
        self,
        discriminator: Discriminator,
        real: LevelsOrOne,
        fake: Levels,
        logits: list[Float[Tensor, "N K"]],
        labels: Labels,
    ) -> Float[Tensor, " N"]:
        """How far augmentation moves the logits of real and of fake samples, one batch of both."""
        shown = [draw_view(x, self.noise_levels, self.config.augment)(x) for x in (real, fake)]
        seen = discriminator(torch.cat(shown), labels.repeat(2)).logits.chunk(2)
        return inconsistency(logits[0], seen[0]) + inconsistency(logits[1], seen[1])

    def logits_of(
        self,
        discriminator: Discriminator,
        shown: list[Float[Tensor, "_ L C H W"]],
        batch: Batch,
    ) -> tuple[list[Float[Tensor, "_ K"]], Float[Tensor, "N S E"] | None]:
        """Logits of every pass, and features of the first one where a teacher aligns them.

        A pass of fewer samples is of the first ones of the batch. Where no layer looks across the
        batch all passes are one batch; the one with features goes alone, because only it needs the
        last block for all tokens.
        """
        if not self.config.joint_batch:
            labels = batch.labels
            return [discriminator(x, labels[: len(x)]).logits for x in shown], None
        first, features = [], None
        if self.config.alignment.is_used:
            output = discriminator(shown[0], batch.labels, with_features=True)
            first, features, shown = [output.logits], output.features, shown[1:]
        counts = [len(samples) for samples in shown]
        labels = torch.cat([batch.labels[:count] for count in counts])
        return [*first, *discriminator(torch.cat(shown), labels).logits.split(counts)], features

    @torch.no_grad()
    def teach(self, view: View, batch: Batch) -> Float[Tensor, "N S E"]:
        assert self.teacher is not None and batch.images is not None, (
            "checked when the run is built"
        )
        return self.teacher(view.on_images(teacher_input(batch.images, self.config.alignment.side)))
