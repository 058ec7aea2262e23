"""A small classifier trained on a user's own images: a feature network without a download.

Its last hidden layer is a feature space in which real and generated images can be compared, and
its logits say whether a class-conditional sample shows its class. Numbers from different
classifiers are not comparable: each is known by the digest of its weights.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import CheckpointError, DataError
from scalegan.interfaces import Features, Images, Labels
from scalegan.runtime.files import atomic_folder, read_checked, save_tensors, write_json
from scalegan.runtime.rng import derive, stream
from scalegan.runtime.weights import digest_of_weights, load_weights

FORMAT = 1
WIDTH = 64
"""Of the features: so few that some hundred images have a covariance of full rank."""
GRID = 32
"""Larger images are cut into patches, about so many to a side: the cost does not grow."""
EPOCHS = 30
MOST_HELD_OUT = 5_000


class Classifier(nn.Module):
    """Patches, then convolutions that halve the side down to four, and one hidden layer.

    Args:
        num_classes: K.
        side: P of the images it is made for; it takes others too.
    """

    def __init__(self, num_classes: int, side: int) -> None:
        super().__init__()
        patch = max(1, side // GRID)
        num_halvings = max(1, math.ceil(math.log2(max(1, side // patch) / 4)))
        widths = [32 * 2**i for i in range(num_halvings)]
        kernel, padding = (3, 1) if patch == 1 else (patch, 0)
        convolutions = [nn.Conv2d(3, widths[0], kernel, patch, padding, bias=False)]
        convolutions += [
            nn.Conv2d(a, b, 3, padding=1, bias=False)
            for a, b in zip(widths, [*widths[1:], 2 * widths[-1]], strict=True)
        ]
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(nn.BatchNorm2d(layer.out_channels) for layer in convolutions)
        self.hidden = nn.Linear(2 * widths[-1] * 16, WIDTH)
        self.out = nn.Linear(WIDTH, num_classes)

    def features(self, images: Float[Tensor, "N 3 P P"]) -> Float[Tensor, "N E"]:
        """The hidden layer, of images in 0..255."""
        x = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = F.max_pool2d(x, 2) if x.shape[-1] > 7 else x
            x = F.relu(norm(x))
        return F.relu(self.hidden(F.adaptive_avg_pool2d(x, 4).flatten(1)))

    def forward(self, images: Float[Tensor, "N 3 P P"]) -> Float[Tensor, "N K"]:
        return self.out(self.features(images))


class TrainedClassifier:
    """A trained classifier as a feature network, with logits of the classes it knows.

    Args:
        network: changed in place: frozen, in eval mode.
        about: what `classifier.json` holds: classes, side, held-out accuracy, settings.
    """

    def __init__(self, network: Classifier, about: dict[str, Any]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.about = about
        self.class_names: list[str] = about["class_names"]
        self.held_out_accuracy: float = about["held_out_accuracy"]
        self.digest = digest_of_weights(network.state_dict())

    @torch.no_grad()
    def __call__(self, images: Images) -> Features:
        device = next(self.network.parameters()).device
        pooled = self.network.features(images.to(device).float())
        return Features(pooled, logits=self.network.out(pooled))

    def identity(self) -> dict[str, Any]:
        return {
            "kind": "classifier",
            "label": f"classifier {self.digest[:4]}",
            "digest": self.digest,
            "layer": f"hidden, {WIDTH}",
            "resize": "none",
            "classes": self.class_names,
            "held_out_accuracy": self.held_out_accuracy,
        }


def fit_classifier(
    images: Images,
    labels: Labels,
    class_names: list[str],
    config: ClassifierConfig | None = None,
    watch: Callable[[int, int], None] = lambda step, steps: None,
    device: str | torch.device = "cpu",
) -> TrainedClassifier:
    """Train a classifier on images; some of them are held out for its own accuracy.

    The same images, config and device give the same classifier; PyTorch's own generators are left
    as they were.

    Args:
        images: of one size.
        class_names: K of them, two at least with images.
        watch: is called before each step with its number and that of all.

    Raises:
        DataError: if there are fewer than two classes, or too few images.
    """
    config = config or ClassifierConfig()
    if len(labels.unique()) < 2 or len(images) < 10:
        raise DataError(
            f"a classifier needs images of two classes at least, ten in all; these are "
            f"{len(images)} of {len(labels.unique())}",
            "without classes compare in a network that others trained: --features dinov2-l, "
            "inception or transformers:PATH",
        )
    rng = stream(config.seed, "classifier", "order")
    order = torch.randperm(len(images), generator=rng)
    num_held_out = max(1, min(MOST_HELD_OUT, int(config.held_out * len(order))))
    held_out, training = order[:num_held_out], order[num_held_out:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.seed, "classifier"))
        network = Classifier(len(class_names), images.shape[-1]).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _train(network, images, labels, training, config, rng, watch)
    about: dict[str, Any] = {
        "format": FORMAT,
        "class_names": class_names,
        "side": images.shape[-1],
        "num_images": len(training),
        "num_held_out": num_held_out,
        "held_out_accuracy": 0.0,
        "settings": asdict(config),
        "torch": torch.__version__,
    }
    trained = TrainedClassifier(network, about)
    trained.held_out_accuracy = accuracy(trained, images[held_out], labels[held_out])
    about["held_out_accuracy"] = trained.held_out_accuracy
    return trained


def _train(
    network: Classifier,
    images: Images,
    labels: Labels,
    training: Int64[Tensor, " M"],
    config: ClassifierConfig,
    rng: torch.Generator,
    watch: Callable[[int, int], None],
) -> None:
    device = next(network.parameters()).device
    # Small sets take smaller batches: some hundred steps at least.
    batch_size = min(config.batch_size, 64 if len(training) < 10_000 else config.batch_size,
                     len(training))  # fmt: skip
    epochs = min(EPOCHS, max(1, config.images_seen // len(training)))
    per_epoch = len(training) // batch_size
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=1e-2, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, epochs * per_epoch, pct_start=0.1
    )
    step = 0
    for _ in range(epochs):
        shuffled = training[torch.randperm(len(training), generator=rng)]
        for part in shuffled[: per_epoch * batch_size].split(batch_size):
            watch(step, epochs * per_epoch)
            shown = _augment(images[part].float(), config.flip, rng).to(device)
            loss = F.cross_entropy(network(shown), labels[part].to(device), label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1


def _augment(
    images: Float[Tensor, "N 3 P P"], may_flip: bool, rng: torch.Generator
) -> Float[Tensor, "N 3 P P"]:
    """Shift a batch at random by up to an eighth of its side, and mirror it if it may be."""
    side = images.shape[-1]
    most = side // 8 if side >= 16 else 0  # a pixel of eight would be too much
    if most:
        x, y = torch.randint(0, 2 * most + 1, (2,), generator=rng).tolist()
        padded = F.pad(images, (most, most, most, most), mode="reflect")
        images = padded[..., y : y + side, x : x + side]
    return images.flip(3) if may_flip and torch.rand((), generator=rng) < 0.5 else images


def accuracy(classifier: Callable[[Images], Features], images: Images, labels: Labels) -> float:
    """Share of images that the classifier gives their label."""
    logits = [classifier(part).logits for part in images.split(512)]
    best = torch.cat([part.argmax(dim=1).cpu() for part in logits if part is not None])
    return (best == labels).double().mean().item()


def save_classifier(path: Path, classifier: TrainedClassifier) -> None:
    """Write a classifier's weights and facts as a folder that is complete once it has its name."""
    with atomic_folder(path) as draft:
        save_tensors(classifier.network.state_dict(), draft / "classifier.safetensors")
        write_json(draft / "classifier.json", classifier.about | {"digest": classifier.digest})


def load_classifier(path: str | Path, device: str | torch.device = "cpu") -> TrainedClassifier:
    """Read what `save_classifier` wrote.

    Raises:
        CheckpointError: if there is none, it is damaged or of another format.
    """
    folder = Path(path)
    if not (folder / "classifier.json").is_file():
        raise CheckpointError(
            f"`{folder}` holds no classifier", "`scalegan classifier train SOURCE OUT`"
        )
    about = read_checked(folder, "classifier.json", FORMAT, "classifier", "train it again")
    try:
        with torch.random.fork_rng(devices=[]):  # start values that are replaced at once
            network = Classifier(len(about["class_names"]), about["side"])
        load_weights(network, folder / "classifier.safetensors")
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TrainedClassifier(network, about)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"classifier `{folder}` is not usable: {error}") from None
