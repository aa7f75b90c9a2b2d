"""Whether data, task, network, recipe and metrics fit together; refused when the config is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.errors import UserError
from lossatlas.spec.catalogue import NETWORKS, DataSource, data_source
from lossatlas.tasks import NO_TEXT, find, mismatch

if TYPE_CHECKING:
    from lossatlas.metrics.base import Metric
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.parts import DataPart, Recipe


def check_data(part: DataPart, where: str) -> None:
    """Refuse a task that a data set has no targets for, and a load that its examples cannot have.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    task, source = find(part.task, f"{where}.task"), data_source(part.source, where)
    if not source.known:
        return
    kind, _, axes = source.targets.partition(" ")
    if (wrong := mismatch(task, kind or "classes", int(axes or 1))) is not None:
        what, fix = wrong
        raise UserError(f"'{task.name}' {what}", where=f"{where}.task", fix=fix)
    if task.needs_text and not source.text:
        raise UserError(f"'{task.name}' {NO_TEXT[0]}", where=f"{where}.task", fix=NO_TEXT[1])
    if not source.targets:
        return
    unfit = {
        "pixel_noise": part.pixel_noise,
        "mean": part.mean,
        "transforms": part.transforms == "paper",
        "label_noise": part.label_noise and source.targets != "classes 1",
    }
    for key, given in unfit.items():
        if given:
            of = "one class per example" if key == "label_noise" else "images with labels"
            what = f"'{key}' is for {of}, and these are other inputs and targets"
            raise UserError(what, where=f"{where}.{key}", fix="leave it out")


def check_blocks(recipe: Recipe, together: int, where: str) -> None:
    """Refuse replicas that are trained together on batches that differ in size.

    Raises:
        UserError: If there are some.
    """
    if recipe.batch_tokens is not None and together > 1:
        what = "batches that are counted by tokens differ between replicas"
        raise UserError(what, where=f"{where}.together", fix="1")


def check_cell(cell: Cell, where: str) -> None:
    """Refuse a recipe that the task cannot have, and inputs that a built-in network does not take.

    Raises:
        UserError: With the nearest fix.
    """
    task, recipe, source = cell.task, cell.recipe, data_source(cell.data.source)
    if recipe.label_smoothing and not task.classes:
        what = f"'label_smoothing' needs classes, and '{task.name}' has none"
        raise UserError(what, where=where, fix="leave it out")
    rule = recipe.early_stop
    if rule is not None and rule.accuracy is not None and not task.scored:
        what = f"'early_stop.accuracy' needs errors, and the task '{task.name}' counts none"
        raise UserError(what, where=where, fix="'early_stop.loss'")
    if recipe.batch_tokens is not None and not task.sequence:
        what = f"'batch_tokens' counts tokens, and '{task.name}' has none"
        raise UserError(what, where=where, fix="'batch_size'")
    if source.targets and recipe.augment is not None:
        what = "'augment' is for images with labels"
        raise UserError(what, where=where, fix="leave it out, or give train_images")
    if source.known and cell.model.builder in NETWORKS:
        _check_inputs(cell.model.builder, source, where)


def _check_inputs(builder: str, source: DataSource, where: str) -> None:
    kind = source.inputs or "square"
    if kind not in NETWORKS[builder].inputs:
        names = {"oblong": "images that are not square", "named": "inputs by name"}
        what = f"'{builder}' does not take {names.get(kind, kind)}"
        takes = [name for name, network in NETWORKS.items() if kind in network.inputs]
        fix = ", ".join([*takes, "or your own 'package.module:object'"])
        raise UserError(what, where=where, fix=fix)


def check_figure(draws: str, data: DataPart, where: str) -> None:
    """Refuse figures of ours of a task that counts no errors: they show accuracies, and in nats.

    Raises:
        UserError: With the nearest fix.
    """
    task = find(data.task)
    if not task.scored:
        what = f"'{draws}' shows accuracies and errors, and the task '{task.name}' counts none"
        raise UserError(what, where=where, fix="a figure of your own: examples/figure")


def check_metric(metric: Metric, name: str, data: DataPart, where: str) -> None:
    """Refuse a metric that a task cannot have.

    Raises:
        UserError: With the nearest fix.
    """
    task, source = find(data.task), data_source(data.source)
    what = ""
    if metric.needs_classes and (not task.classes or task.sequence):
        what = f"'{name}' needs one class per example, and the task is '{task.name}'"
    elif metric.needs_images and source.targets:
        what = f"'{name}' needs images with labels, and '{data.source}' has inputs and targets"
    if what:
        raise UserError(what, where=f"{where}.metrics", fix="leave it out")
