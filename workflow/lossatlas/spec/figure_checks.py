"""Whether what figures ask for exists and is what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.errors import UserError, nearest
from lossatlas.metrics import registry
from lossatlas.spec import fits
from lossatlas.spec.figures import drawing_of
from lossatlas.spec.shown import Shown

if TYPE_CHECKING:
    from lossatlas.spec.config import Config


def check(config: Config) -> None:
    """Refuse figures of what is not measured.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    for name, figure in config.figures.items():
        where = f"figures.{name}"
        drawing = drawing_of(figure.draws, f"{where}.draws")
        if drawing.reference or drawing.study:
            shown = "published results" if drawing.reference else "a study"
            for key in ("experiment", "metrics", "against"):
                if getattr(figure, key):
                    what = f"'{figure.draws}' draws {shown}, and no experiment"
                    raise UserError(what, where=f"{where}.{key}", fix="leave it out")
            continue
        if figure.experiment and figure.experiment not in config.experiments:
            fix = nearest(figure.experiment, config.experiments)
            what = f"unknown experiment '{figure.experiment}'"
            raise UserError(what, where=f"{where}.experiment", fix=fix)
        if figure.against and not drawing.against:
            what = f"'{figure.draws}' draws one experiment"
            raise UserError(what, where=f"{where}.against", fix="leave it out")
        shown_ = Shown(config, name)
        if ":" not in drawing.target or drawing.target.startswith("lossatlas."):
            part = config.datasets[config.experiments[shown_.experiment].dataset]
            fits.check_figure(figure.draws, part, where)
        for kind, metric in figure.metrics.items():
            _check_chosen(config, shown_, kind, metric)
        shown_.check()


def _check_chosen(config: Config, shown: Shown, kind: str, metric: str) -> None:
    """Refuse a metric that a figure names for a kind, where it cannot be what it shows."""
    where = f"figures.{shown.name}.metrics"
    if kind not in shown.kinds:
        what = f"'{shown.style.draws}' reads no '{kind}'"
        if kind not in registry.built_in():
            what = f"unknown kind of metric '{kind}'"
        raise UserError(what, where=where, fix=nearest(kind, shown.kinds))
    measured = config.experiments[shown.experiment].metrics
    named = [name for name in measured if _kind(config, name) == kind]
    if metric not in config.metrics and metric not in registry.built_in():
        raise UserError(f"unknown metric '{metric}'", where=where, fix=nearest(metric, named))
    if (found := _kind(config, metric)) != kind:
        what = f"'{metric}' is of the kind '{found}', and not '{kind}'"
        raise UserError(what, where=f"{where}.{kind}", fix=nearest(metric, named))
    if metric not in measured:
        what = f"experiment '{shown.experiment}' measures no '{metric}'"
        fix = f"add it to experiments.{shown.experiment}.metrics"
        raise UserError(what, where=f"{where}.{kind}", fix=fix)


def _kind(config: Config, metric: str) -> str:
    return str(config.metrics.get(metric, {}).get("kind", metric))
