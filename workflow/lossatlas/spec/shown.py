"""Which tables the figures and the papers' claims are made from, and which files they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lossatlas import paths
from lossatlas.errors import UserError, nearest
from lossatlas.paths import REFERENCE, STUDIES
from lossatlas.spec.catalogue import data_sources
from lossatlas.spec.drawings import Drawing
from lossatlas.spec.figures import ABOUT_REHEARSAL, FIGURES, Figure, drawing_of

if TYPE_CHECKING:
    from lossatlas.spec.config import Config

REFERENCE_KINDS = ["performance", "hessian", "connectivity", "cka", "distance"]
STUDY_OF = {
    "two_spirals": "lossatlas.simplex.spirals:study",
    "sampling_bias": "lossatlas.simplex.sampling_bias:study",
    "regression": "lossatlas.simplex.regression:study",
    "toy_walkers": "lossatlas.diffusion.toy:study",
    "refinement": "lossatlas.refine.trial:study",
}
SIMPLEX_KINDS = ["simplex", "simplex_volume", "espro", "espro_strength"]
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
        caption = self.style.caption or self.drawing.caption
        if not self.style.caption and (about := self._material):
            caption = f"{caption.rstrip()}\n\n{about}\n"
        return f"{ABOUT_REHEARSAL}\n\n{caption}" if self.config.rehearse else caption

    @property
    def _material(self) -> str:
        """What an experiment's figure is drawn from: network, data, test images, replicas."""
        if self.paper == "" or self.drawing.reference or self.drawing.study:
            return ""
        found = []
        for name in self.experiments:
            one = self.config.experiments[name]
            source = data_sources().get(self.config.datasets[one.dataset].source or one.dataset)
            tested = f" ({source.test:,} test examples)" if source and source.test else ""
            count = len(one.seed_list)
            many = f"{count} replica{'s' * (count != 1)} of each cell"
            found.append(
                f"Experiment ``{name}``: ``{one.model}`` on ``{one.dataset}``{tested}, {many}."
            )
        return "\n".join(found)

    @property
    def experiment(self) -> str:
        """The experiment that it shows, or what stands in its place."""
        if self.drawing.reference:
            return REFERENCE
        if self.drawing.study:
            return STUDIES
        return self.style.experiment or next(iter(self.config.experiments))

    @property
    def experiments(self) -> list[str]:
        """The experiments that it reads: one, or two that it compares."""
        return [self.experiment, *([self.style.against] if self.drawing.against else [])]

    def metric(self, kind: str, experiment: str = "") -> str:
        """Return an experiment's metric of a kind that the figure shows.

        Args:
            kind: Of the metric.
            experiment: Its name; default: the first that the figure reads.

        Raises:
            UserError: The experiment measures none.
        """
        found = self._metric(kind, experiment or self.experiment)
        if found is None:
            self.check()
            raise ValueError(f"'{self.name}' reads no '{kind}'")
        return found

    def _metric(self, kind: str, experiment: str) -> str | None:
        if experiment in (REFERENCE, STUDIES):
            return kind
        measured = self.config.experiments[experiment].metrics
        if kind in self.style.metrics and self.style.metrics[kind] in measured:
            return self.style.metrics[kind]
        return self.config.firsts(experiment).get(kind, kind if kind in measured else None)

    def check(self) -> None:
        """Refuse an experiment that cannot be drawn.

        Raises:
            UserError: With all the metrics that it lacks, or the axis.
        """
        if self.drawing.against:
            self._check_against()
        for one in self.experiments:
            lacking = [f"'{kind}'" for kind in self.kinds if self._metric(kind, one) is None]
            if lacking:
                what = f"experiment '{one}' measures no {', '.join(lacking)}"
                them = "them" if len(lacking) > 1 else "it"
                fix = f"add {them} to experiments.{one}.metrics"
                raise UserError(what, where=f"figures.{self.name}", fix=fix)
        if self.drawing.variants:
            self._check_variants()
        for axis in self.drawing.axes:
            if self.experiment not in (REFERENCE, STUDIES) and not self.axis(axis):
                what = f"the figure '{self.name}' needs a {axis} axis"
                fix = f"add '{axis}'; one value is enough"
                raise UserError(what, where=f"experiments.{self.experiment}", fix=fix)

    def _check_against(self) -> None:
        """Refuse a second experiment that is none, or has other axes."""
        where, other = f"figures.{self.name}.against", self.style.against
        known = self.config.experiments
        if not other:
            what = f"'{self.style.draws}' compares two experiments, and one is named"
            raise UserError(what, where=where, fix="a name from 'experiments'")
        if other not in known or other == self.experiment:
            what = "is the experiment itself" if other in known else f"no experiment '{other}'"
            raise UserError(what, where=where, fix=nearest(other, {*known} - {self.experiment}))
        mine, theirs = ([*known[name].axes] for name in (self.experiment, other))
        if mine != theirs:
            what = f"'{other}' has the axes {theirs}, and '{self.experiment}' has {mine}"
            raise UserError(what, where=where, fix="two experiments over the same axes")

    def _check_variants(self) -> None:
        """Refuse an experiment that measures no two metrics of a kind."""
        measured = self.config.experiments[self.experiment].metrics
        kinds = [self.config.metric(name).kind for name in measured]
        if len(set(kinds)) == len(kinds):
            what = f"experiment '{self.experiment}' measures no two metrics of one kind"
            fix = "add a variant, such as cka_raw: {kind: cka, mixup_alpha: 0}"
            raise UserError(what, where=f"figures.{self.name}", fix=fix)

    @property
    def kinds(self) -> list[str]:
        """The kinds of metric whose tables it reads, each once."""
        return list(dict.fromkeys([*self.drawing.scalars, *self.drawing.series]))

    def tables(self, which: Literal["scalars", "series"]) -> list[str]:
        """Return the tables of scalars, or of series, that it reads."""
        path = paths.metric_table if which == "scalars" else paths.series_table
        kinds = self.drawing.scalars if which == "scalars" else self.drawing.series
        self.check()
        if self.drawing.variants and which == "scalars":
            return [paths.table(self.experiment)]
        return [path(one, self.metric(kind, one)) for one in self.experiments for kind in kinds]

    @property
    def inferred(self) -> list[str]:
        """The table of the cells that are not measured, if it shows some."""
        one = self.config.experiments.get(self.experiment)
        refined = self.drawing.inferred and one is not None and one.refine is not None
        return [paths.inferred(self.experiment)] if refined else []

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
