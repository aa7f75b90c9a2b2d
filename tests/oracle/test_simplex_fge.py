"""Fast geometric ensembles against plain SGD; what a network does not train stays."""

import pytest
import torch
from simplex_cases import FAST, split

from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, flatten, state_of
from lossatlas.models.mlp import MLP
from lossatlas.simplex import fge, spro
from lossatlas.simplex.complexes import grown as single
from lossatlas.training.seeds import generator

torch.set_num_threads(1)


def test_cyclic_rate() -> None:
    rates = [fge.cyclic_rate(4 * epoch / 4, 4, 0.05, 0.0001) for epoch in range(4)]
    assert rates == pytest.approx([0.05, 0.02505, 0.0001, 0.02505])


def test_members_are_those_of_plain_sgd() -> None:
    """Against torch.optim, epoch by epoch: batches in random order, the rate set by hand."""
    data, module = split(40, 0), MLP(3, 1, 3, 4, 1)
    params, buffers = state_of(module)
    found = fge.members(
        Functional(module),
        buffers,
        flatten(params),
        data,
        count=2,
        cycle_epochs=2,
        rates=(0.1, 0.01),
        batch_size=16,
        settings=Spro(weight_decay=0.05),
        words=("some", 3),
    )
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=0.05)
    expected, step = [], 0
    for epoch in range(3):
        order = torch.randperm(40, generator=generator("fge", "some", 3, epoch))
        for index in order.split(16)[:2]:  # 8 images make no batch
            step += 1
            optimiser.param_groups[0]["lr"] = fge.cyclic_rate(step, 4, 0.1, 0.01)
            optimiser.zero_grad()
            logits = module(data.images[index])
            torch.nn.functional.cross_entropy(logits, data.labels[index]).backward()
            optimiser.step()
            if step in (2, 6):  # in the middle of each cycle of 4
                expected.append(flatten(state_of(module)[0]))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)


class Tuned(MLP):
    """A head that is trained on features that are not."""

    def __init__(self) -> None:
        super().__init__(3, 1, 3, 6, 1)
        self.layers[1].requires_grad_(False)


def test_parameters_that_are_not_trained_stay() -> None:
    module = Tuned()
    functional, (params, buffers) = Functional(module), state_of(module)
    mode, train = flatten(params), split(32, 0)
    fixed = torch.cat([torch.full_like(p, "layers.1" in n).flatten() for n, p in params.items()])
    chosen = Spro(**{**FAST, "regularisation": 0.1})
    grown = spro.grow(functional, buffers, mode[None], train, single(0, 2), chosen).vertices
    rates = {"count": 1, "cycle_epochs": 2, "rates": (0.1, 0.01), "settings": Spro()}
    (member,) = fge.members(functional, buffers, mode, train, **rates)
    for found in (grown[1], grown[2], member):
        moved = found != mode
        torch.testing.assert_close(found[fixed == 1], mode[fixed == 1], rtol=1e-6, atol=0)
        assert moved[fixed == 0].all()
