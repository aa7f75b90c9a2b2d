"""A module as a pure function of its parameters, for one or many parameter sets at once.

Everything that looks at a loss landscape moves through parameter space. It does so with any
`torch.nn.Module`, unchanged: no twin layers, no in-place edits of the user's module.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossatlas.errors import UserError

Tensors = dict[str, Tensor]

_NORMS = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001 -- torch has no public base


class Functional:
    """A module without weights of its own.

    Args:
        module: Any module from images to logits; copied. The weights of the copy are never used:
            every call must bring all of its own. Tied weights stay tied, under their first name.
    """

    def __init__(self, module: nn.Module) -> None:
        self.shapes = {name: p.shape for name, p in module.named_parameters()}
        self.trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        self.module = copy.deepcopy(module)
        self.norms = [m for m in self.module.modules() if isinstance(m, _NORMS)]
        self.has_norms = any(norm.track_running_stats for norm in self.norms)
        self._momenta = [norm.momentum for norm in self.norms]

    def __call__(self, params: Tensors, buffers: Tensors, x: Tensor, *, train: bool) -> Tensor:
        """Return logits of one network.

        Args:
            params: Name -> tensor; differentiable.
            buffers: Name -> tensor; BatchNorm statistics are updated in place if `train`.
            x: Images (N, C, H, W).
            train: Training mode (batch statistics, dropout) or evaluation mode.

        Returns:
            Logits (N, classes).
        """
        if self.module.training != train:
            self.module.train(train)
        return functional_call(self.module, (params, buffers), (x,), strict=True)

    def many(self, params: Tensors, buffers: Tensors, x: Tensor, *, train: bool) -> Tensor:
        """Return logits of G networks, each on its own images.

        Args:
            params: Name -> (G, ...).
            buffers: Name -> (G, ...); updated in place if `train`.
            x: Images (G, N, C, H, W).
            train: As in `__call__`.

        Returns:
            Logits (G, N, classes).
        """
        if len(x) == 1:
            one = self(one_of(params, 0), one_of(buffers, 0), x[0], train=train)
            return one.unsqueeze(0)
        if self.module.training != train:
            self.module.train(train)

        def forward(p: Tensors, b: Tensors, images: Tensor) -> Tensor:
            return functional_call(self.module, (p, b), (images,), strict=True)

        return torch.vmap(forward, randomness="different")(params, buffers, x)

    def untrained(self, device: torch.device) -> Tensor | None:
        """Return which parameters (P,) the module does not train; None if it trains all."""
        if len(self.trainable) == len(self.shapes):
            return None
        names = set(self.trainable)
        parts = [torch.full((s.numel(),), n not in names) for n, s in self.shapes.items()]
        return torch.cat(parts).to(device)

    @contextmanager
    def norm_momentum(self, momentum: float) -> Iterator[None]:
        """Give every BatchNorm this momentum inside the block."""
        for norm in self.norms:
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm, original in zip(self.norms, self._momenta, strict=True):
                norm.momentum = original


@torch.no_grad()
def check_logits(functional: Functional, params: Tensors, buffers: Tensors, images: Tensor) -> None:
    """Refuse a network whose forward pass gives no logits.

    Args:
        functional: The network.
        params: Name -> tensor, of one network.
        buffers: Name -> tensor; not changed.
        images: (N, C, H, W), a few.

    Raises:
        UserError: If it returns a tuple or anything but a tensor (N, classes).
    """
    fresh = {name: b.clone() for name, b in buffers.items()}
    out: object = functional(params, fresh, images, train=False)
    fix = "wrap it in a module whose forward returns the logits alone"
    if not isinstance(out, Tensor):
        what = f"forward returns a {type(out).__name__}, not a tensor of logits"
        raise UserError(what, where="model", fix=fix)
    if out.dim() != 2:
        what = f"forward returns a tensor of shape {tuple(out.shape)}, not (N, classes)"
        raise UserError(what, where="model", fix=fix)


def state_of(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Return detached copies of a module's parameters and buffers, by name."""
    params = {name: p.detach().clone() for name, p in module.named_parameters()}
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    return params, buffers


def stack(states: list[Tensors]) -> Tensors:
    """Stack G sets of tensors: name -> (G, ...)."""
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def one_of(stacked: Tensors, index: int) -> Tensors:
    """Return views of the tensors of one network."""
    return {name: tensor[index] for name, tensor in stacked.items()}


def flatten(params: Mapping[str, Tensor]) -> Tensor:
    """Return one vector (P,) of all parameters, in their order."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor | torch.Size]) -> Tensors:
    """Cut a vector (P,) into named tensors with the shapes of `like` (views)."""
    shapes = {name: v.shape if isinstance(v, Tensor) else v for name, v in like.items()}
    pieces = torch.split(vector, [shape.numel() for shape in shapes.values()])
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


@torch.no_grad()
def reestimate_norms(
    functional: Functional, params: Tensors, buffers: Tensors, images: Tensor, batch: int = 1024
) -> Tensors:
    """Return buffers whose BatchNorm statistics are those of `params` on `images`.

    The statistics are the mean over batches of the batch statistics, weighted by batch size, as in
    Garipov et al. (2018): momentum = n_batch / n_seen in one pass.

    Args:
        functional: The network.
        params: Name -> tensor, of one network.
        buffers: Name -> tensor; not changed.
        images: (N, C, H, W).
        batch: Images per pass; an incomplete last batch counts by its size.

    Returns:
        New buffers.
    """
    fresh = {name: b.clone() for name, b in buffers.items()}
    if not functional.has_norms:
        return fresh
    seen = 0
    for chunk in images.split(batch):
        seen += len(chunk)
        with functional.norm_momentum(len(chunk) / seen):
            functional(params, fresh, chunk, train=True)
    return fresh
