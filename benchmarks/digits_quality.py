"""How good the digits demo is, judged by classifiers that the training never sees.

Trains the recipe with several seeds (or takes runs that exist), draws 1,000 class-conditional
samples of each, truncation off, and scores them with scikit-learn: accuracy of a neural network and
of a support vector machine trained on 80% of the real digits, and the Frechet distance in the
network's hidden layer against that between two halves of the real digits (mean of 20 splits).

    python -m benchmarks.digits_quality --seeds 0,1,2 --out benchmarks/results/digits_quality.json
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import scalegan
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.statistics import moments

NUM_SAMPLES, SPLITS = 1000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", help="further flags of `scalegan train`, after --")
    arguments = parser.parse_args()
    examiner = Examiner()
    rows = []
    for seed in arguments.seeds.split(","):
        run = arguments.runs / f"digits-seed{seed}"
        seconds = None
        if not (run / "snapshots").is_dir():
            command = ["-m", "scalegan", "train", "digits", "--seed", seed, "--run", str(run)]
            started = time.perf_counter()
            subprocess.run([sys.executable, *command, *arguments.overrides], check=True)
            seconds = round(time.perf_counter() - started)
        rows.append({"seed": int(seed), "seconds": seconds, **examiner.examine(run)})
        print(json.dumps(rows[-1]), flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{platform.machine()} CPU, one thread",
        "torch": torch.__version__,
        "real": examiner.about,
        "runs": rows,
    }
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


class Examiner:
    """Classifiers trained on real digits, and the distance of real digits to themselves."""

    def __init__(self) -> None:
        data = load_digits()
        # The same rounding as the training data: 0..16 becomes 0..255.
        self.real = np.rint(data.images * (255 / 16)).reshape(len(data.images), -1) / 255
        self.labels = data.target
        rng = np.random.default_rng(0)
        training, held_out = np.split(rng.permutation(len(self.real)), [int(0.8 * len(self.real))])
        self.network = MLPClassifier((128,), alpha=0.1, max_iter=400, random_state=0)
        self.machine = SVC(C=10, gamma=0.08)
        scores = {}
        for name, examiner in (("network", self.network), ("machine", self.machine)):
            examiner.fit(self.real[training], self.labels[training])
            score = examiner.score(self.real[held_out], self.labels[held_out])
            scores[f"{name}_held_out_accuracy"] = round(float(score), 4)
        halves = [np.array_split(rng.permutation(len(self.real)), 2) for _ in range(SPLITS)]
        distances = [self.distance(self.real[a], self.real[b]) for a, b in halves]
        self.floor = float(np.mean(distances))
        self.about: dict[str, Any] = scores | {"distance_of_halves": round(self.floor, 4)}
        print(json.dumps(self.about), flush=True)

    def examine(self, run: Path) -> dict[str, Any]:
        gan = scalegan.load(run)
        images = gan.sample(NUM_SAMPLES)[:, 0].flatten(1).numpy() / 255
        labels = np.arange(NUM_SAMPLES) % 10
        distance = self.distance(images, self.real)
        variance = [
            images[labels == k].var(0).sum() / self.real[self.labels == k].var(0).sum()
            for k in range(10)
        ]
        return {
            "steps": gan.card.step,
            "network_accuracy": round(float(self.network.score(images, labels)), 4),
            "machine_accuracy": round(float(self.machine.score(images, labels)), 4),
            "distance": round(distance, 3),
            "ratio_to_halves": round(distance / self.floor, 2),
            "variance_within_class_over_real": round(float(np.mean(variance)), 2),
            "nearest_real_over_real": round(self.novelty(images), 2),
        }

    def novelty(self, images: np.ndarray) -> float:
        """Median distance to the nearest real digit, over that of real digits to each other.

        Far below 1, samples would be copies of the training data.
        """
        to_real = np.sort(cdist(images, self.real), axis=1)[:, 0]
        among_real = np.sort(cdist(self.real, self.real), axis=1)[:, 1]
        return float(np.median(to_real) / np.median(among_real))

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return frechet_distance(*(moments(torch.from_numpy(self.hidden(x))) for x in (a, b)))

    def hidden(self, images: np.ndarray) -> np.ndarray:
        return np.maximum(images @ self.network.coefs_[0] + self.network.intercepts_[0], 0)


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
