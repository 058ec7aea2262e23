import torch

from scalegan.features.rounding import RULES


def test_rules_by_hand() -> None:
    """-1.1 and 1.1 must not wrap around; 0 is the tie of levels 127 and 128."""
    samples = torch.tensor([-1.1, -1.0, 0.0, 0.005, 1.0, 1.1])
    expected = {
        "nearest": [0, 0, 128, 128, 255, 255],
        "half-up": [0, 0, 128, 128, 255, 255],
        "half-up-grid": [0, 0, 128, 128, 255, 255],
        "truncate": [0, 0, 127, 128, 255, 255],
    }
    assert {name: rule(samples).tolist() for name, rule in RULES.items()} == expected


def test_nearest_takes_ties_to_the_even_level() -> None:
    ties = torch.tensor([2 * (level + 0.5) / 255 - 1 for level in range(4)], dtype=torch.float64)
    assert RULES["nearest"](ties).tolist() == [0, 2, 2, 4]


def test_eight_bits_survive_all_rules_but_truncation() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    samples = levels.float() / 127.5 - 1
    for name in ("nearest", "half-up", "half-up-grid"):
        assert torch.equal(RULES[name](samples), levels)
