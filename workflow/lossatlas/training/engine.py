"""The training engine: G replicas of one cell, data on the device, no loader.

Replicas of a small network are trained as one vectorised network (`torch.vmap` over stacked
parameters), those of a larger one side by side. Parameters of all replicas lie in one matrix
(G, P), so that a step of the optimiser is four operations whatever the number of layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas import device as devices
from lossatlas.data.augment import changed
from lossatlas.data.tensors import Inputs, Named, Split
from lossatlas.errors import UserError
from lossatlas.models.functional import (
    Functional,
    Tensors,
    stack,
    state_of,
)
from lossatlas.models.layout import Layout, is_small
from lossatlas.models.outputs import check_outputs, explained, outputs_of
from lossatlas.spec.parts import Recipe
from lossatlas.training import graphs
from lossatlas.training.batches import batches
from lossatlas.training.networks import chunk_of
from lossatlas.training.optimisers import decay, optimiser_of
from lossatlas.training.recorder import PREFIX, Recorder, Snapshot
from lossatlas.training.rows import Group, Run, named
from lossatlas.training.schedules import learning_rate, may_stop
from lossatlas.training.seeds import seed_default
from lossatlas.training.state import State
from lossatlas.training.trained import Trained

Report = Callable[[dict[str, Any]], None]
Backward = Callable[[Any, Tensor], Tensor]
Earlier = Callable[[Functional, Tensors], Snapshot | None]


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with the initial weights of a seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        seed_default(torch.device("cpu"), "init", seed)
        return build()


class Engine:
    """Trains the replicas of one cell.

    Args:
        build: Makes the network.
        recipe: How to train.
        seeds: One per replica.
        split: Training examples, on the device to train on.
        state: Where unfinished work is kept.
        report: Called once per epoch with numbers for the log.
        earlier: Returns the end of a shorter run from which to go on, from the network and its
            buffers; called where nothing was saved and the recipe records (`ends`).

    Raises:
        UserError: If there are fewer images than a batch needs, the network's outputs are not those
            of the task, or the device does not have the recipe's precision.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        recipe: Recipe,
        seeds: list[int],
        split: Split,
        state: State | None = None,
        report: Report | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self.recipe, self.seeds, self.split, self.task = recipe, seeds, split, split.task
        self.state = state or State(None, "")
        self.report = report or (lambda _: None)
        self.earlier = earlier
        self.device = split.device
        if recipe.batch_tokens is None and recipe.steps(len(split)) == 0:
            what = f"batch_size {recipe.batch_size} is more than the {len(split)} training images"
            raise UserError(what, where="recipe", fix=f"at most {len(split)}")
        devices.check_precision(recipe.precision, self.device)
        rule = recipe.early_stop
        self.stops = rule is not None and rule.stop
        modules = [initialise(build, seed) for seed in seeds]
        self.functional = Functional(modules[0])
        states = [state_of(module) for module in modules]
        some = split.take(slice(0, 2))
        some = replace(some, images=some.images.to("cpu"), labels=some.labels.cpu())
        check_outputs(self.functional, *states[0], some, outputs_of(split), train=True)
        self._start(stack([s[0] for s in states]), stack([s[1] for s in states]))

    def _start(self, params: Tensors, buffers: Tensors) -> None:
        count, device = len(self.seeds), self.device
        trainable = {n: p for n, p in params.items() if n in set(self.functional.trainable)}
        self.frozen = {n: p.to(device) for n, p in params.items() if n not in trainable}
        flat = torch.cat([p.reshape(count, -1) for p in trainable.values()], 1).to(device)
        moved = {name: b.to(device) for name, b in buffers.items()}
        wanted = {*self.recipe.checkpoints, *(["early"] if self.stops else [])}
        kinds: list[str] = [k for k in ("best", "early") if k in wanted]
        copies = {k: (flat.clone(), {n: b.clone() for n, b in moved.items()}) for k in kinds}
        epochs = {k: torch.zeros(count, dtype=torch.long, device=device) for k in kinds}
        sums = torch.zeros(3, count, device=device, dtype=torch.float64)
        self.run = Run(flat, optimiser_of(self.recipe, flat), moved, copies, epochs, sums)
        self._bind()

    def _bind(self) -> None:
        """Divide the replicas into groups that are computed together."""
        count = len(self.seeds)
        size = count if is_small(self.functional, self.split.images) else 1
        self.layout = Layout(self.split.images, self.functional, size)
        shapes = {n: self.functional.shapes[n] for n in self.functional.trainable}
        rows = [slice(first, first + size) for first in range(0, count, size)]
        self.groups = [Group.of(self.run.flat, shapes, row) for row in rows]
        self._backwards: list[Backward] = [partial(self._backward, group) for group in self.groups]
        if graphs.wanted(self.device):
            self._backwards = [graphs.Replayed(backward) for backward in self._backwards]
        self.recorder = None
        if self.recipe.record is not None:
            steps = self.recipe.steps(len(self.split))
            sizes = [shape.numel() for shape in shapes.values()]
            resumes = self.state.path is not None
            self.recorder = Recorder(
                self.recipe.record,
                steps,
                self.recipe.epochs,
                self.run.flat,
                self.run.buffers,
                sizes,
                resumes=resumes,
            )

    def train(self) -> Trained:
        """Train to the end, from the saved state if there is one.

        Raises:
            Preempted: If a signal asked the job to leave; the state has been saved.
            UserError: If BatchNorm meets a batch of one image of one place.
        """
        recipe, random = self.recipe, [self.device] if self.device.type == "cuda" else []
        arithmetic = devices.arithmetic(recipe.precision, deterministic=recipe.deterministic)
        with torch.random.fork_rng(random), arithmetic:
            return self._train()

    def _train(self) -> Trained:
        self._resume()
        recipe, run = self.recipe, self.run
        while run.epoch < recipe.epochs and not self._over():
            started = time.perf_counter()
            if self.recorder is not None and run.step == 0:
                self.recorder.keep(run.epoch, run.flat, run.buffers)
            with explained():
                self._epoch()
            self._close_epoch(time.perf_counter() - started)
        if self.recorder is not None:
            self.recorder.keep(run.epoch, run.flat, run.buffers)
            if self.recorder.wants_whole():
                self.recorder.whole(self._whole_loss())
            self.recorder.finish(run.flat)
        return self._trained()

    def _epoch(self) -> None:
        run, recipe = self.run, self.recipe
        for step, index in enumerate(batches(self.split, self.seeds, run.epoch, recipe)):
            if step < run.step:
                continue
            self._step(index, learning_rate(recipe, run.epoch, run.total))
            run.total += 1
            run.step = step + 1
            if self.state.due():
                self._save()

    def _step(self, index: Tensor, rate: float) -> None:
        """One step of the optimiser on all replicas."""
        run, recipe, recorder = self.run, self.recipe, self.recorder
        if recorder is not None:
            recorder.begin(self._now)
            if recorder.wants_whole():
                recorder.whole(self._whole_loss())
        before = run.sums.clone()
        gradient = torch.cat([self._gradient(number, index) for number in range(len(self.groups))])
        with torch.no_grad():
            if recorder is not None:
                loss, _, units = run.sums - before
                recorder.step(run.flat, gradient, loss / units)
            if recipe.clip_norm is not None:
                norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
                gradient.mul_((recipe.clip_norm / (norms + 1e-6)).clamp(max=1.0))
            if l2 := decay(recipe, run.optimiser):
                gradient.add_(run.flat, alpha=l2)
            run.optimiser.step(run.flat, gradient, rate)
        if recorder is not None and recorder.wants_after():
            recorder.after(self._loss_again(index))

    @torch.no_grad()
    def _loss_again(self, index: Tensor) -> Tensor:
        """Return the losses (G,) on a batch (G, B) at the present weights, in training mode."""
        buffers = {name: b.clone() for name, b in self.run.buffers.items()}
        found = [self._losses(g, index[g.rows], buffers, train=True) for g in self.groups]
        return torch.cat(found).double()

    @torch.no_grad()
    def _whole_loss(self) -> Tensor:
        """Return the losses (G,) on all training examples, in evaluation mode."""
        count, images = len(self.seeds), len(self.split)
        total = torch.zeros(count, dtype=torch.float64, device=self.device)
        everything = torch.arange(images, device=self.device).expand(count, -1)
        seen = torch.zeros_like(total)
        for index in everything.split(chunk_of(self.split.images), dim=1):
            for group in self.groups:
                losses = self._losses(group, index[group.rows], self.run.buffers, train=False)
                units = self.task.units(self.split.labels[index[group.rows]])
                total[group.rows] += losses.double() * units
                seen[group.rows] += units
        return total / seen

    def _losses(self, group: Group, index: Tensor, buffers: Tensors, *, train: bool) -> Tensor:
        """Return the mean losses (g,) of a group's replicas on examples (g, B)."""
        group.refresh()
        self._seed(group)
        params = {**{name: p[group.rows] for name, p in self.frozen.items()}, **group.leaves}
        own = {name: b[group.rows] for name, b in buffers.items()}
        images = self._images(group, index) if train else self.layout.take(index)
        if not train:
            outputs = self.functional.many(params, own, images, train=False)
            return self.task.means(outputs, self.split.labels[index])
        with devices.rounding(self.recipe.precision, self.device):
            outputs = self.functional.many(params, own, images, train=True)
            return self.task.means(outputs, self.split.labels[index])

    def _seed(self, group: Group) -> None:
        """Let whatever a module draws, such as dropout, depend on the replicas and the step."""
        seeds = self.seeds[group.rows]
        seed_default(self.device, "noise", *seeds, self.run.epoch, self.run.step)

    def _images(self, group: Group, index: Tensor) -> Inputs:
        """Return the inputs (g, B, ...) of a step, augmented if that was asked for."""
        names = [(seed, self.run.epoch, self.run.step) for seed in self.seeds[group.rows]]
        return changed(self.split, self.layout.take(index), names)

    def _gradient(self, number: int, index: Tensor) -> Tensor:
        """Return the gradients (g, P) of the replicas of a group on examples (G, B)."""
        group = self.groups[number]
        self._seed(group)
        index = index[group.rows]
        images, labels = self._images(group, index), self.split.labels[index]
        if isinstance(images, Named):  # graphs are of tensors
            return self._backward(group, images, labels)
        return self._backwards[number](images, labels)

    def _backward(self, group: Group, images: Inputs, labels: Tensor) -> Tensor:
        """Return the gradients (g, P) of the mean losses of a group, on inputs (g, B, ...)."""
        group.refresh()
        task, smoothing = self.task, self.recipe.label_smoothing
        params = {**{name: p[group.rows] for name, p in self.frozen.items()}, **group.leaves}
        buffers = {name: b[group.rows] for name, b in self.run.buffers.items()}
        with devices.rounding(self.recipe.precision, self.device):
            outputs = self.functional.many(params, buffers, images, train=True)
            losses = task.means(outputs, labels, smoothing)
        pieces = torch.autograd.grad(
            losses.sum(), list(group.leaves.values()), allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            if smoothing:  # what is minimised is not what is reported
                losses = task.means(outputs, labels)
            units = task.units(labels)
            self.run.sums[0, group.rows] += losses * units.to(losses.dtype)
            self.run.sums[1, group.rows] += task.errors(outputs, labels)
            self.run.sums[2, group.rows] += units
            return torch.cat([piece.reshape(len(labels), -1) for piece in pieces], 1)

    def _close_epoch(self, seconds: float) -> None:
        run, recipe = self.run, self.recipe
        summed, wrong, units = run.sums
        now = {"train_loss": (summed / units).tolist()}
        if self.task.scored:
            right = ((units - wrong) / units).tolist()
            now["train_accuracy"] = [100.0 * share for share in right]
        for name, values in now.items():
            run.history.setdefault(name, []).append(values)
        run.epoch, run.step = run.epoch + 1, 0
        run.sums.zero_()
        self._keep()
        run.rates.append(learning_rate(recipe, run.epoch - 1, max(0, run.total - 1)))
        line = {"epoch": run.epoch, "epochs": recipe.epochs, "learning_rate": run.rates[-1]}
        self.report(line | now | {"seconds": seconds})

    def _keep(self) -> None:
        """Copy the weights of the replicas that are at their best, or have just settled."""
        run = self.run
        losses = np.array(run.history["train_loss"])
        chosen = {}
        if "best" in run.kept:
            before = losses[:-1].min(axis=0, initial=np.inf, where=np.isfinite(losses[:-1]))
            chosen["best"] = (losses[-1] < before) & ~self._stopped()
        if "early" in run.kept and self.recipe.early_stop is not None:
            first = (run.epoch_of["early"] == 0).cpu().numpy()
            chosen["early"] = may_stop(run.history, self.recipe.early_stop) & first
        for kind, mask in chosen.items():
            index = torch.from_numpy(np.flatnonzero(mask)).to(self.device)
            flat, buffers = run.kept[kind]
            flat[index] = run.flat[index]
            for name, buffer in buffers.items():
                buffer[index] = run.buffers[name][index]
            run.epoch_of[kind][index] = run.epoch

    def _stopped(self) -> np.ndarray:
        """Say which replicas (G,) have stopped early: what they do from then on does not count.

        The others of their group go on, and must not change what becomes of a replica.
        """
        if not self.stops:
            return np.zeros(len(self.seeds), dtype=bool)
        return (self.run.epoch_of["early"] > 0).cpu().numpy()

    def _over(self) -> bool:
        """Say whether every replica has diverged, or has stopped early."""
        losses = self.run.history.get("train_loss", [])
        return bool(losses) and bool((~np.isfinite(losses[-1]) | self._stopped()).all())

    def _now(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        run = self.run
        return run.tensors(), run.values()

    def _save(self) -> None:
        now = self._now()
        self.state.save(*(now if self.recorder is None else self.recorder.resumable(now)))

    def _resume(self) -> None:
        saved = self.state.load(self.device)
        if saved is None and self.earlier is not None:
            saved = self.earlier(self.functional, self.run.buffers)
        if saved is None:
            return
        tensors, values = saved
        mine = self.run.tensors()
        if mine.keys() != {name for name in tensors if not name.startswith(PREFIX)}:
            return
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(tensors[name])
        self.run.restore(values)
        if self.recorder is not None:
            self.recorder.restore(tensors, values)

    def _trained(self) -> Trained:
        run = self.run
        history = {name: np.array(rows) for name, rows in run.history.items()}
        flat, buffers = run.flat, run.buffers
        ends = np.full(len(self.seeds), run.epoch)
        if self.stops:
            ends[self._stopped()] = run.epoch_of["early"].cpu().numpy()[self._stopped()]
            flat, buffers = run.early_or((flat, buffers))
        counts = np.arange(run.epoch)[:, None] < ends
        finite = torch.isfinite(flat).all(dim=1).cpu().numpy()
        diverged = ~((np.isfinite(history["train_loss"]) | ~counts).all(axis=0) & finite)
        checkpoints: dict[str, tuple[Tensors, Tensors]] = {}
        final = flat, buffers
        for kind in self.recipe.checkpoints:
            flat, buffers = run.kept.get(kind, final)
            if kind == "early":
                flat, buffers = run.early_or(run.kept.get("best", final))
            checkpoints[kind] = (named(self.functional, flat, self.frozen), buffers)
        if self.recorder is not None:
            for epoch, (flat, buffers) in self.recorder.snapshots(run.epoch, run.buffers).items():
                checkpoints[f"epoch-{epoch}"] = (named(self.functional, flat, self.frozen), buffers)
        return Trained(
            self.functional,
            self.seeds,
            checkpoints,
            history,
            run.rates,
            diverged,
            {kind: epochs.cpu().numpy() for kind, epochs in run.epoch_of.items()},
            ends,
            {} if self.recorder is None else self.recorder.arrays(self.recipe, run.rates),
            self._end(),
        )

    def _end(self) -> Snapshot | None:
        """Return where a longer run could go on."""
        if self.recorder is None or not self.recorder.resumes:
            return None
        return self.recorder.end(self._now())
