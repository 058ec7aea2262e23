import torch

from scalegan.runtime.rng import derive, seed_all, stream


def test_same_key_same_draws() -> None:
    assert derive(0, "turn", 1) == derive(0, "turn", 1)
    assert torch.equal(
        torch.randn(4, generator=stream(0, "a")), torch.randn(4, generator=stream(0, "a"))
    )


def test_keys_that_look_alike_differ() -> None:
    keys = [(), (0,), ("0",), (0, 0), (0, "0"), ("0/0",), ("int:0",), (1,), (10,), (1, 0), (0, 1)]
    assert len({derive(*key) for key in keys}) == len(keys)


def test_seeds_fit_a_signed_integer() -> None:
    seeds = [derive(i) for i in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62 * 1.9


def test_neighboring_keys_are_unrelated() -> None:
    draws = torch.stack([torch.randn(1000, generator=stream(0, step)) for step in range(50)])
    correlation = torch.corrcoef(draws) - torch.eye(50)
    assert correlation.abs().max() < 5 / 1000**0.5


def test_seed_all_seeds_the_global_generator() -> None:
    seed_all(1, "turn")
    first = torch.randn(3)
    torch.randn(5)
    seed_all(1, "turn")
    assert torch.equal(torch.randn(3), first)


def test_a_stream_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(3, generator=stream(0))
    assert torch.equal(torch.get_rng_state(), before)
