"""All loss terms of both networks, by name.

Source: GAT (arXiv 2509.24935), spec section 8; the parts are in the files beside this one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.interfaces import Batch, DiscriminatorModule, Levels, LevelsOrOne, Teacher, Terms
from scalegan.losses import mng
from scalegan.losses.adversarial import Pair
from scalegan.losses.alignment import alignment, teacher_input
from scalegan.losses.penalties import finite_difference, nearby
from scalegan.losses.view import View, draw_view
from scalegan.settings import ObjectiveConfig


class Objective:
    """The two objectives of a run.

    Args:
        config: strengths and kinds of the terms.
        adversarial: the pair of losses that `config.adversarial` names.
        num_levels: levels of the generator.
        teacher: frozen features of normalised pictures; needed if `config.alignment.weight` > 0.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        adversarial: Pair,
        num_levels: int,
        teacher: Teacher | None = None,
    ) -> None:
        self.config = config
        self.adversarial = adversarial
        noise = config.noise
        self.shares = mng.noise_schedule(num_levels, noise.min_information, noise.floor)
        self.teacher = teacher

    def discriminator_terms(
        self,
        discriminator: DiscriminatorModule,
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
        fake_view, real_view = self.view(fake), self.view(real)
        penalty = self.config.penalty
        due = (penalty.r1 > 0 or penalty.r2 > 0) and step % penalty.every == 0
        shown = [real_view(real), fake_view(fake)]
        if due:  # moved before it is augmented, and shown in the same view
            shown += [real_view(nearby(real, penalty.sigma))]
            shown += [fake_view(nearby(fake, penalty.sigma))]
        logits, features = self.judge(discriminator, shown, batch)
        losses = {"d/adversarial": self.adversarial.discriminator(logits[0], logits[1])}
        watched = {"d/real_logits": logits[0].mean(1), "d/fake_logits": logits[1].mean(1)}
        if due:
            watched["d/r1"] = finite_difference(logits[0], logits[2], penalty.sigma)
            watched["d/r2"] = finite_difference(logits[1], logits[3], penalty.sigma)
            losses["d/r1_penalty"] = penalty.r1 / 2 * watched["d/r1"]
            losses["d/r2_penalty"] = penalty.r2 / 2 * watched["d/r2"]
        if features is not None:
            token, patches = alignment(features, self.teach(real_view, batch))
            losses["d/alignment"] = self.config.alignment.weight * (token + patches)
        return Terms(losses, {name: value.detach() for name, value in watched.items()})

    def generator_terms(
        self, discriminator: DiscriminatorModule, real: LevelsOrOne, fake: Levels, batch: Batch
    ) -> Terms:
        """Terms of the generator's turn: fresh views, and gradients only through the fake."""
        fake_view, real_view = self.view(fake), self.view(real)
        fake_logits = discriminator(fake_view(fake), batch.labels).logits
        with torch.no_grad():
            real_logits = discriminator(real_view(real), batch.labels).logits
        return Terms({"g/adversarial": self.adversarial.generator(real_logits, fake_logits)}, {})

    def view(self, samples: LevelsOrOne) -> View:
        return draw_view(samples, self.shares, self.config.augment)

    def judge(
        self, discriminator: DiscriminatorModule, shown: list[Levels], batch: Batch
    ) -> tuple[list[Float[Tensor, "N K"]], Float[Tensor, "N S E"] | None]:
        """Logits of every pass, and features of the first one where a teacher aligns them.

        No layer looks across the batch, so all passes are one batch; the one with features goes
        alone, because only it needs the last block for all tokens.
        """
        first, features = [], None
        if self.config.alignment.weight > 0:
            output = discriminator(shown[0], batch.labels, with_features=True)
            first, features, shown = [output.logits], output.features, shown[1:]
        labels = batch.labels.repeat(len(shown))
        return [*first, *discriminator(torch.cat(shown), labels).logits.chunk(len(shown))], features

    @torch.no_grad()
    def teach(self, view: View, batch: Batch) -> Float[Tensor, "N S E"]:
        assert self.teacher is not None and batch.images is not None, (
            "checked when the run is built"
        )
        return self.teacher(view.on_images(teacher_input(batch.images, self.config.alignment.side)))
