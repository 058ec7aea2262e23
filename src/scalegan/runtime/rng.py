"""Streams of randomness: every draw is a function of a key such as (seed, attempt, rank, step)."""

import hashlib

import torch

Key = int | str


def derive(*key: Key) -> int:
    """A 63-bit seed from a key. Different keys give unrelated seeds, neighboring ones too."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*key: Key) -> torch.Generator:
    """A generator of its own for this key. On the CPU, so that devices agree on the draws."""
    return torch.Generator().manual_seed(derive(*key))


def seed_all(*key: Key) -> None:
    """Seed PyTorch's own generators (all devices) with this key."""
    torch.manual_seed(derive(*key))
