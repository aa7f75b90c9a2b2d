"""Which tables the figures and the papers' claims are made from, and which files they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.paths import REFERENCE, STUDIES
from lossatlas.spec.drawings import Drawing
from lossatlas.spec.figures import FIGURES, Figure, drawing_of

if TYPE_CHECKING:
    from lossatlas.spec.config import Config

REFERENCE_KINDS = ["performance", "hessian", "connectivity", "cka", "distance"]
STUDY_OF = {
    "two_spirals": "lossatlas.simplex.spirals:study",
    "sampling_bias": "lossatlas.simplex.sampling_bias:study",
    "toy_walkers": "lossatlas.diffusion.toy:study",
}
SIMPLEX_KINDS = ["simplex", "simplex_volume", "espro"]
PAPERS = {"taxonomy": set(REFERENCE_KINDS), "simplex": {*SIMPLEX_KINDS}, "diffusion": {"diffusion"}}

# Axes of which claims of the taxonomy speak, and the task that they need none for.
CLAIMED = {"batch_size", "learning_rate", "weight_decay"}
CLAIMED |= {"data_fraction", "label_noise", "pixel_noise"}
TRANSLATION = "sequence_to_sequence"

Tables = list[str] | dict[str, list[str]]


@dataclass(frozen=True)
class Shown:
    """One figure of a config; a built-in one that the config leaves out can be asked for too."""

    config: Config
    name: str

    @property
    def style(self) -> Figure:
        """How it is drawn."""
        return self.config.figures.get(self.name) or Figure(draws=self.name)

    @property
    def drawing(self) -> Drawing:
        """What it declares."""
        return drawing_of(self.style.draws, f"figures.{self.name}.draws")

    @property
    def paper(self) -> str:
        """The paper that it belongs to, "" for a figure of the user's own."""
        return self.style.draws.partition("_")[0] if self.style.draws in FIGURES else ""

    @property
    def caption(self) -> str:
        """The text of reports, as reStructuredText."""
        return self.style.caption or self.drawing.caption

    @property
    def experiment(self) -> str:
        """The experiment that it shows, or what stands in its place."""
        if self.drawing.reference:
            return REFERENCE
        if self.drawing.study:
            return STUDIES
        return self.style.experiment or next(iter(self.config.experiments))

    def metric(self, kind: str) -> str:
        """Return the experiment's metric of a kind that the figure shows.

        Raises:
            UserError: The experiment measures none.
        """
        found = self._metric(kind)
        if found is None:
            self.check()
            raise ValueError(f"'{self.name}' reads no '{kind}'")
        return found

    def _metric(self, kind: str) -> str | None:
        if self.experiment in (REFERENCE, STUDIES):
            return kind
        if kind in self.style.metrics:
            return self.style.metrics[kind]
        measured = self.config.experiments[self.experiment].metrics
        return self.config.firsts(self.experiment).get(kind, kind if kind in measured else None)

    def check(self) -> None:
        """Refuse an experiment that cannot be drawn.

        Raises:
            UserError: With all the metrics that it lacks, or the axis.
        """
        lacking = [f"'{kind}'" for kind in self.kinds if self._metric(kind) is None]
        if lacking:
            what = f"experiment '{self.experiment}' measures no {', '.join(lacking)}"
            them = "them" if len(lacking) > 1 else "it"
            fix = f"add {them} to experiments.{self.experiment}.metrics"
            raise UserError(what, where=f"figures.{self.name}", fix=fix)
        for axis in self.drawing.axes:
            if self.experiment not in (REFERENCE, STUDIES) and not self.axis(axis):
                what = f"the figure '{self.name}' needs a {axis} axis"
                fix = f"add '{axis}'; one value is enough"
                raise UserError(what, where=f"experiments.{self.experiment}", fix=fix)

    @property
    def kinds(self) -> list[str]:
        """The kinds of metric whose tables it reads, each once."""
        return list(dict.fromkeys([*self.drawing.scalars, *self.drawing.series]))

    def tables(self, which: Literal["scalars", "series"]) -> list[str]:
        """Return the tables of scalars, or of series, that it reads."""
        path = paths.metric_table if which == "scalars" else paths.series_table
        kinds = self.drawing.scalars if which == "scalars" else self.drawing.series
        self.check()
        return [path(self.experiment, self.metric(kind)) for kind in kinds]

    def axis(self, which: str) -> str:
        """Return the name of the load or temperature axis, "" where there is none."""
        if self.experiment == REFERENCE:
            return {"load": "width", "temperature": "batch_size"}[which]
        if self.experiment == STUDIES:
            return ""
        return next(iter(getattr(self.config.experiments[self.experiment], which)), "")


def figure_files(
    figures: list[str], extensions: tuple[str, ...] = ("png", "pdf", "csv")
) -> list[str]:
    """Return the files of some figures."""
    return [paths.figure(figure, extension) for figure in figures for extension in extensions]


def tables_told(config: Config, paper: str) -> dict[str, Tables]:
    """Return, by experiment, the tables that tell of a paper's claims.

    Those of the taxonomy are lists of tables of scalars; the others' are, by kind of metric, one
    table of scalars and one of series.
    """
    return _grids_told(config) if paper == "taxonomy" else _walks_told(config, paper)


def claim_tables(config: Config, paper: str) -> list[str]:
    """Return all tables that tell of a paper's claims."""
    found: list[str] = []
    for told in tables_told(config, paper).values():
        kinds = [told] if isinstance(told, list) else told.values()
        found += [table for tables in kinds for table in tables]
    return found


def everything_of(config: Config, paper: str) -> list[str]:
    """Return a paper's figures, and its claims where an experiment can tell of them."""
    names = [name for name in config.figures if Shown(config, name).paper == paper]
    claims = [paths.claims_of(paper)] if tables_told(config, paper) else []
    return [*figure_files(names), *claims]


def _grids_told(config: Config) -> dict[str, Tables]:
    found: dict[str, Tables] = {}
    for name, experiment in config.experiments.items():
        firsts = config.firsts(name)
        task = config.datasets[experiment.dataset].task
        told = experiment.axes and (CLAIMED & {*experiment.axes} or task == TRANSLATION)
        if told and set(firsts) >= PAPERS["taxonomy"]:
            found[name] = [paths.metric_table(name, firsts[kind]) for kind in REFERENCE_KINDS]
    if any(Shown(config, figure).drawing.reference for figure in config.figures):
        found[REFERENCE] = [paths.metric_table(REFERENCE, kind) for kind in REFERENCE_KINDS]
    return found


def _walks_told(config: Config, paper: str) -> dict[str, Tables]:
    found: dict[str, Tables] = {}
    told = [*SIMPLEX_KINDS, "connectivity", "diffusion"]
    for name in config.experiments:
        firsts = config.firsts(name)
        if set(firsts) & PAPERS[paper]:
            found[name] = {kind: _both(name, firsts[kind]) for kind in told if kind in firsts}
    drawn = [one for name in config.figures if (one := Shown(config, name)).paper == paper]
    studies = [kind for one in drawn if one.drawing.study for kind in one.drawing.series]
    if studies:
        found[STUDIES] = {kind: _both(STUDIES, kind) for kind in dict.fromkeys(studies)}
    return found


def _both(experiment: str, metric: str) -> list[str]:
    return [paths.metric_table(experiment, metric), paths.series_table(experiment, metric)]
