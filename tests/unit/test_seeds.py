"""Seeds from words, and the generators that modules draw from by themselves."""

import torch

from lossatlas.training.seeds import generator, seed_default, seed_of


def test_seeds_depend_on_words_alone() -> None:
    assert seed_of("order", 3, 17) == seed_of("order", "3", 17)
    assert len({seed_of("a", 1), seed_of("a", 2), seed_of("a1"), seed_of("", "a", 1)}) == 4
    assert 0 <= seed_of("anything") < 2**63
    assert torch.equal(*(torch.rand(3, generator=generator("x", 1)) for _ in range(2)))


def test_default_generator_is_seeded_as_torch_does(monkeypatch) -> None:
    torch.manual_seed(seed_of("noise", 5))
    wanted = torch.nn.functional.dropout(torch.ones(50))
    monkeypatch.setattr(torch, "manual_seed", None)  # a millisecond a call: not for each step
    with torch.random.fork_rng(devices=[]):
        seed_default(torch.device("cpu"), "noise", 5)
        assert torch.equal(torch.nn.functional.dropout(torch.ones(50)), wanted)
