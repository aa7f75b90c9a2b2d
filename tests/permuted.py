"""Networks for tests of permutations, and what moving their units must not change."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data.tensors import Inputs, Named, Split, TensorData
from lossatlas.models import build
from lossatlas.models.functional import Functional, Tensors, stack, state_of
from lossatlas.permutation.atoms import Group
from lossatlas.permutation.trace import Symmetries, find, permuted
from lossatlas.training.networks import Networks

State = tuple[Tensors, Tensors]


def built(name: str, size: int = 8, channels: int = 1, **arguments: object) -> nn.Module:
    """Return a built-in network of 3 classes whose BatchNorm statistics and shifts are drawn."""
    torch.manual_seed(0)
    shape = {"num_classes": 3, "in_channels": channels, "image_size": size}
    return stirred(build(name, arguments, **shape))


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw what is the same for all units at first: statistics and affine maps of norms."""
    draw = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            for one in part.parameters(recurse=False):
                one.data += 0.3 * torch.rand(one.shape, generator=draw)
            for name, one in part.named_buffers(recurse=False):
                if "running" in name:
                    one += 0.2 * torch.rand(one.shape, generator=draw)
    return module.eval()


def images(count: int = 40, size: int = 8, channels: int = 1) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def moves(groups: Sequence[Group], seed: int = 0) -> list[np.ndarray]:
    """Draw a permutation of each group that moves something."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(group.size) for group in groups]
    return [np.roll(one, 1) if (one == np.arange(len(one))).all() else one for one in drawn]


def moved(state: State, groups: Sequence[Group], chosen: Sequence[np.ndarray]) -> State:
    return permuted(state[0], groups, chosen), permuted(state[1], groups, chosen)


def outputs(module: nn.Module, state: State, inputs: Inputs) -> Tensor:
    """Return outputs in double precision, by the module itself and `load_state_dict`."""
    module = module.double().eval()
    known = module.state_dict()
    module.load_state_dict({n: t for n, t in {**state[0], **state[1]}.items() if n in known}, False)
    with torch.no_grad():
        if isinstance(inputs, Named):
            return module(**inputs.tensors)
        return module(inputs.double() if inputs.is_floating_point() else inputs)


def found_in(module: nn.Module, inputs: Inputs) -> Symmetries:
    """Return the symmetries of a module; that outputs do not depend on them is asserted."""
    state = state_of(module)
    found = find(Functional(module), state, inputs)
    for seed in (0, 1):
        after = moved(state, found.groups, moves(found.groups, seed))
        assert any(not torch.equal(after[0][n], p) for n, p in state[0].items())
        one, other = (outputs(module, each, inputs) for each in (state, after))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(one.abs().max()))
    module.float()
    return found


def networks(module: nn.Module, others: Sequence[State], split: Split) -> Networks:
    """Return a module and others with its architecture as replicas 0, 1, ..."""
    states = [state_of(module), *others]
    params, buffers = (stack([state[part] for state in states]) for part in (0, 1))
    data = TensorData("made", split, split.take(slice(0, 20)), 3)
    return Networks(Functional(module), params, buffers, list(range(len(states))), data)


def labelled(inputs: Tensor) -> Split:
    """Return inputs with three classes that can be learnt."""
    flat = inputs.flatten(1)
    draw = torch.Generator().manual_seed(5)
    return Split(inputs, (flat @ torch.randn(flat.shape[1], 3, generator=draw)).argmax(1))
