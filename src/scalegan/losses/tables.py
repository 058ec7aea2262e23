"""The adversarial losses by the name that `objective.adversarial` has."""

from scalegan.losses import adversarial

ADVERSARIAL = {
    "relativistic": adversarial.Pair(
        adversarial.relativistic_discriminator, adversarial.relativistic_generator, is_paired=True
    ),
    "logistic": adversarial.Pair(
        adversarial.logistic_discriminator, adversarial.logistic_generator, is_paired=False
    ),
    "hinge": adversarial.Pair(
        adversarial.hinge_discriminator, adversarial.hinge_generator, is_paired=False
    ),
}
