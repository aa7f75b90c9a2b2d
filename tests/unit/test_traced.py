"""Runs every kind of job and asks of each function that it calls: does its fingerprint reach it?"""

import importlib
import json
import pkgutil
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file

import lossatlas
from lossatlas import entries, fingerprint, paths
from lossatlas.carriers import CARRIERS
from lossatlas.contents import digests
from lossatlas.diffusion import toy
from lossatlas.metrics import registry
from lossatlas.paths import LIBRARY
from lossatlas.reach import Library
from lossatlas.refine import trial
from lossatlas.simplex import sampling_bias, spirals
from lossatlas.spec.cells import LOAD_AXES, TEMPERATURE_AXES, Cell
from lossatlas.spec.figures import FIGURES, Figure
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.spec.refining import KINDS
from lossatlas.spec.shown import REFERENCE_KINDS, STUDY_OF
from lossatlas.tables import collect
from lossatlas.training.checkpoints import read_weights

pytestmark = pytest.mark.slow

PLAIN = Cell(
    DataPart(source="digits", fraction=0.1),
    ModelPart(builder="resnet18", width=1),
    Recipe(epochs=2, batch_size=64, checkpoints=["final", "best"]),
)
RICH = Cell(
    DataPart(source="digits", fraction=0.1, label_noise=0.1, pixel_noise=0.1, transforms="paper"),
    ModelPart(builder="mlp", width=4),
    Recipe(
        epochs=8,
        batch_size=16,
        decay_epochs=[1],
        augment={"crop": 1, "flip": True},
        early_stop={"after": 0, "epochs": 1},
        checkpoints=["early", "final"],
        record={"length": 40, "stride": 20, "snapshots": 1, "after": 4, "whole": 8},
    ),
)
LONGER = Cell(RICH.data, RICH.model, RICH.recipe.model_copy(update={"epochs": 9}))
SEEDS = [0, 1, 2]
FAST = {"epochs": 1, "batch_size": 128}
SETTINGS: dict[str, list[dict[str, Any]]] = {  # of kinds, what there is to be run beside defaults
    "performance": [{}],
    "hessian": [
        {"samples": 32, "iterations": 4, "probes": 3, "density_probes": 1, "density_steps": 4},
        {"samples": 32, "mode": "paper", "iterations": 2, "probes": 3, "parameters": "conv"},
    ],
    "gauss_newton": [
        {"samples": 32, "iterations": 4, "probes": 3, "density_probes": 1, "density_steps": 4}
    ],
    "connectivity": [
        {**FAST, "points": 3},
        {"mode": "paper", **FAST},
        {**FAST, "points": 3, "curve": "polygon", "bends": 2, "pairs": "all", "start": "random"},
    ],
    "cka": [{"samples": 32, "batch_size": 16}, {"mode": "paper", "samples": 32, "batch_size": 16}],
    "distance": [{}],
    "alignment": [
        {"points": 3},
        {"points": 3, "matching": "activations", "samples": 32, "repair": True},
    ],
    "simplex": [
        {**FAST, "connectors": 2, "points": 3, "places": 3, "raster": 3, "images": 16},
        {**FAST, "mode": "paper", "complex": "single", "points": 3, "raster": 2, "images": 16},
    ],
    "simplex_volume": [{**FAST, "connectors": 3, "regularisations": [0.0, 0.01], "points": 2}],
    "espro": [
        {**FAST, "vertices": 1, "draws": 2, "components": 2, "cycles": 1, "cycle_epochs": 2},
        {**FAST, "vertices": 1, "draws": 2, "components": 2, "cycles": 0, "swag_epochs": 2},
        {**FAST, "mode": "paper", "vertices": 1, "draws": 2, "cycles": 0, "severities": []},
    ],
    "espro_strength": [{**FAST, "vertices": 1, "draws": 2, "regularisations": [0.0, 0.01]}],
    "diffusion": [
        {"fit": [2, 8], "bootstrap": 2, "surrogates": 2, "entries": 50},
        {"mode": "paper", "fit": [2, 8], "bootstrap": 0, "surrogates": 2, "entries": 50},
    ],
    "landscape": [{"side": 9, "samples": 16}],
    "hessian_path": [
        {"samples": 16, "eigenvalues": 1, "iterations": 3, "density_steps": 3},
        {"samples": 16, "mode": "paper", "eigenvalues": 1, "iterations": 2, "batch_size": 16},
    ],
}
OF_THE_RICH = (
    *("diffusion", "landscape", "hessian_path"),
    *("simplex", "simplex_volume", "alignment"),
)


# A built-in metric whose table has a column of such a name could not be measured over it.
AXES = dict.fromkeys([*LOAD_AXES, *TEMPERATURE_AXES], 1)


class Named(list[Any]):
    """Files or parameters as Snakemake gives them: by place and by name."""

    def __init__(self, *values: Any, **named: Any) -> None:
        parts = [one if isinstance(one, list) else [one] for one in (*values, *named.values())]
        super().__init__([file for part in parts for file in part])
        self.__dict__.update(named)

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__.get(name, default)

    def items(self) -> Any:
        return self.__dict__.items()


@dataclass
class Traces:
    """Jobs run so far: their entries, and what they called of the library."""

    library: Library
    called: dict[str, tuple[entries.Entries, set[str]]] = field(default_factory=dict)

    def run(self, name: str, asked: entries.Entries, script: str, **given: Any) -> None:
        """Run a script as Snakemake does, in this process."""
        parts = {"input": Named(), "output": Named(), "params": Named(), "wildcards": Named()}
        about = {"scriptdir": str(LIBRARY.parent), "threads": 1, "log": [], "resources": {}}
        fake = SimpleNamespace(rule=name, config={}, **{**parts, **about, **given})
        tracer = Tracer(self.carries)
        with tracer:
            runpy.run_path(str(LIBRARY.parent / script), {"snakemake": fake})
        self.called[name] = (asked, tracer.names)

    def carries(self, called: str) -> bool:
        """Say whether a function is a carrier, or a validator: its work is in the parameters."""
        module, _, path = called.partition(":")
        top, *rest = path.split(".")
        within = module.removeprefix("lossatlas").removeprefix(".")
        if within in CARRIERS or f"{within}:{top}" in CARRIERS:
            return True
        if not rest or not self.library.is_section((module, top)):
            return False
        return ("read", rest[0]) not in self.library.definition((module, top)).members

    def missing(self, asked: entries.Entries, seen: set[str]) -> list[str]:
        """Return the functions that a fingerprint does not reach."""
        reached = fingerprint.parts(asked)
        return sorted(one for one in seen if self._part(one) not in reached)

    def _part(self, called: str) -> str:
        """Return the name under which a function counts: a class counts whole, but no section."""
        module, _, path = called.partition(":")
        top, *rest = path.split(".")
        section = rest and self.library.is_section((module, top))
        return f"{module}:{top}.{rest[0]}" if section else f"{module}:{top}"


class Tracer:
    """Notes the functions of the library that a block calls, as "module:Class.method".

    What a carrier calls is not noted: it is of no more weight than the carrier.
    """

    def __init__(self, carries: Callable[[str], bool]) -> None:
        self.carries = carries
        self.names: set[str] = set()
        self._known: dict[CodeType, str] = {}
        self._inside = 0

    def __enter__(self) -> None:
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: Any, _event: str, _argument: object) -> Any:
        code = frame.f_code
        if code not in self._known:
            name = _name(code)
            self._known[code] = name if not name or not self.carries(name) else CARRIED
        name = self._known[code]
        if name == CARRIED:
            self._inside += 1
            frame.f_trace_lines = False
            return self._leaves
        if name and not self._inside:
            self.names.add(name)
        return None

    def _leaves(self, _frame: Any, event: str, _argument: object) -> Any:
        if event == "return":
            self._inside -= 1
        return self._leaves


CARRIED = "carried"


def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    # The page's template is compiled, too; `assets.digest` counts it.
    outside = not path.is_relative_to(LIBRARY) or path.suffix != ".py"
    if outside or code.co_qualname.startswith("<"):
        return ""
    words = path.relative_to(LIBRARY).with_suffix("").parts
    words = words[:-1] if words[-1] == "__init__" else words
    return f"{'.'.join(('lossatlas', *words))}:{code.co_qualname.partition('.<')[0]}"


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """Every kind of job, run in an order in which each has its inputs."""
    for found in pkgutil.walk_packages(lossatlas.__path__, "lossatlas."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)  # what runs on import is not of a job
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("atlas"))
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(variable, "1")
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        patch.setenv("LOSSATLAS_DEVICE", "cpu")
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr("lossatlas.watch._is_watched", True)  # a job of its own would be a fork
        make_studies_small(patch)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: save_pixel(file))
        patch.setattr("matplotlib.figure.Figure.get_tightbbox", lambda one: one.bbox_inches)
        done = Traces(fingerprint.Sources.read().library)
        for stage in (train, adopt, measure, gather, refine, study, refer, judge, draw):
            stage(done)
        yield done


def save_pixel(file: Path) -> None:
    Image.new("RGB", (1, 1)).save(file, "png")


def make_studies_small(patch: pytest.MonkeyPatch) -> None:
    for name, value in {"SEEDS": 1, "MEMBERS": 5, "CONVERGED": 9.0}.items():
        patch.setattr(spirals, name, value)
    patch.setattr(spirals, "BASE_STEPS", 3)
    patch.setattr(spirals, "VERTEX_STEPS", 2)
    patch.setattr(spirals, "FACES", ((0, 1, 2),))
    patch.setattr(spirals, "STRENGTHS", (0.0,))
    patch.setattr(sampling_bias, "DRAWS", 400)
    patch.setattr(trial, "STARTS", 1)
    patch.setattr(trial, "GRIDS", ("straight", "published"))
    for name, value in {"SIDE": 65, "SHOWN": 33, "SURFACES": 2, "WALKERS": 4}.items():
        patch.setattr(toy, name, value)


def train(done: Traces) -> None:
    made = Named(paths.dataset("digits"))
    digits = Named(name="digits")
    done.run(
        "dataset",
        entries.DATASET,
        "dataset.py",
        output=made,
        params=Named(own=""),
        wildcards=digits,
    )
    recorded = "train, recorded and augmented"
    for name, cell in (("train", PLAIN), (recorded, RICH), ("train, gone on", LONGER)):
        block = "0-2"
        files = {"weights": paths.weights(cell.id, block), "history": paths.history(cell.id, block)}
        done.run(
            name,
            entries.training(cell),
            "train.py",
            input=Named(dataset=made[0]),
            output=Named(**files),
            params=Named(spec=json.dumps(cell.spec), code="c"),
            wildcards=Named(block=block),
        )


def adopt(done: Traces) -> None:
    """A file of somebody else's: here the weights of a trained replica, with a usual prefix."""
    path = paths.weights(PLAIN.id, "0-2")
    params, buffers = read_weights([path], [0], "final", "pt", PLAIN.digest)[0]
    save_file({f"module.{name}": t for name, t in {**params, **buffers}.items()}, "a.safetensors")
    cell = Cell(PLAIN.data, PLAIN.model, Recipe(batch_size=64), "elsewhere")
    done.run(
        "adopt",
        entries.adoption(cell),
        "adopt.py",
        input=Named(file="a.safetensors", dataset=paths.dataset("digits")),
        output=Named(weights=paths.weights(cell.id, "0"), history=paths.history(cell.id, "0")),
        params=Named(
            spec=json.dumps(cell.spec),
            sha256=digests(["a.safetensors"], "here")["a.safetensors"],
            code="c",
        ),
        wildcards=Named(block="0"),
    )


def cell_of(kind: str) -> Cell:
    return RICH if kind in OF_THE_RICH else PLAIN


def measure(done: Traces) -> None:
    assert SETTINGS.keys() <= registry.built_in().keys()
    for kind in dict.fromkeys([*SETTINGS, *registry.built_in()]):  # in this order: some read others
        for place, settings in enumerate(SETTINGS.get(kind, [{}])):
            chosen = registry.built_in()[kind](**settings)
            measure_one(done, kind, place, chosen.model_dump(), cell_of(kind))


def measure_one(done: Traces, kind: str, place: int, settings: dict[str, Any], cell: Cell) -> None:
    read: dict[str, Any] = {"histories": [paths.history(cell.id, "0-2")]}
    if kind != "diffusion":
        read["weights"] = [paths.weights(cell.id, "0-2")]
    if kind == "distance":
        read["performance"] = paths.metric(cell.id, "performance0")
    else:
        read["dataset"] = paths.dataset("digits")
    given = {"settings": json.dumps(settings), "spec": json.dumps(cell.spec)}
    done.run(
        f"{kind}, {place}",
        entries.metric(registry.built_in()[kind], cell),
        "metric.py",
        input=Named(**read),
        output=Named(paths.metric(cell.id, f"{kind}{place}")),
        params=Named(kind=kind, seeds=SEEDS, code="c", **given),
        wildcards=Named(cell=cell.id, metric=kind),
    )


def tables(kind: str) -> dict[str, str]:
    name = f"{kind}0"
    return {"scalars": paths.metric_table("own", name), "series": paths.series_table("own", name)}


def gather(done: Traces) -> None:
    for kind in registry.built_in():
        cell = cell_of(kind)
        done.run(
            f"collect {kind}",
            entries.COLLECT,
            "collect.py",
            input=Named(paths.metric(cell.id, f"{kind}0")),
            output=Named(**tables(kind)),
            params=Named(axes=json.dumps({cell.id: AXES})),
            wildcards=Named(experiment="own"),
        )
    done.run(
        "table",
        entries.TABLE,
        "table.py",
        input=Named(tables("cka")["scalars"], tables("hessian")["scalars"]),
        output=Named(paths.table("own")),
        params=Named(metrics=["cka", "hessian"]),
    )


def refine(done: Traces) -> None:
    """A round and the inferred cells of a grid of which five cells are measured, to one number."""
    axes = {f"{x}-{y}": {"width": x, "batch_size": y} for x in (1, 2, 4) for y in (8, 16, 32)}
    some = [paths.metric(PLAIN.id, f"{kind}0") for kind in KINDS]
    asked = {
        "experiment": "own",
        "axes": axes,
        "records": dict.fromkeys([*axes][:5], some),
        "thresholds": {"rule": "nulls"},
        "bought": [*axes][:5],
        "count": 2,
        "most": 2,
    }
    params = Named(asked=json.dumps(asked))
    scripts = {"refine.py": (entries.REFINE, paths.refined("own", 1))}
    scripts["infer.py"] = (entries.INFER, paths.inferred("own"))
    for script, (entry, output) in scripts.items():
        done.run(
            script,
            entry,
            script,
            output=Named(output),
            params=params,
            wildcards=Named(experiment="own"),
        )


def study_tables(name: str) -> dict[str, str]:
    return {
        "scalars": paths.metric_table("studies", name),
        "series": paths.series_table("studies", name),
    }


def study(done: Traces) -> None:
    for name, target in STUDY_OF.items():
        done.run(
            f"study {name}",
            entries.study(name),
            "study.py",
            output=Named(record=paths.study(name), **study_tables(name)),
            params=Named(target=target),
            wildcards=Named(study=name),
        )


def published(which: str) -> list[str]:
    path = paths.metric_table if which == "scalars" else paths.series_table
    return [path("taxonomy_reference", kind) for kind in REFERENCE_KINDS]


def refer(done: Traces) -> None:
    done.run(
        "reference",
        entries.REFERENCE,
        "reference.py",
        input=Named(paths.published()),
        output=Named(scalars=published("scalars"), series=published("series")),
        params=Named(kinds=REFERENCE_KINDS),
    )


def judge(done: Traces) -> None:
    kinds = ("simplex", "simplex_volume", "espro", "espro_strength", "connectivity", "diffusion")
    own = {kind: list(tables(kind).values()) for kind in kinds}
    studies = {name: list(study_tables(name).values()) for name in STUDY_OF}
    told = {
        "taxonomy": {"taxonomy_reference": published("scalars")},
        "simplex": {"own": own, "studies": studies},
        "diffusion": {"own": own, "studies": studies},
    }
    for paper, experiments in told.items():
        done.run(
            f"claims {paper}",
            entries.claims(paper),
            "claims.py",
            output=Named(paths.claims_of(paper)),
            params=Named(experiments=experiments, about="{}"),
            wildcards=Named(paper=paper),
        )
    done.run(
        "all_claims",
        entries.ALL_CLAIMS,
        "all_claims.py",
        input=Named(*map(paths.claims_of, told)),
        output=Named(paths.claims()),
    )


def again(file: str) -> str:
    """Write a table as that of a second experiment."""
    other = file.replace("/own/", "/again/")
    Path(other).parent.mkdir(parents=True, exist_ok=True)
    collect.write(other, collect.read(file).assign(experiment="again"))
    return other


def draw(done: Traces) -> None:
    for name, drawing in FIGURES.items():
        taxonomy = name.startswith("taxonomy_")
        table = study_tables if drawing.study else tables
        read: dict[str, list[str]] = {}
        for which in ("scalars", "series"):
            read[which] = [table(kind)[which] for kind in getattr(drawing, which)]
            read[which] += [again(file) for file in read[which] if drawing.against]
        if drawing.variants:
            cka = tables("cka")["scalars"]
            collect.write("whole.csv", collect.join({"cka": cka, "cka_raw": cka}))
            read["scalars"] = ["whole.csv"]
        done.run(
            f"figure {name}",
            entries.figure(drawing.target),
            "figure.py",
            input=Named(**read),
            output=Named(**{end: paths.figure(name, end) for end in ("png", "pdf", "csv")}),
            params=Named(
                style=json.dumps(Figure(draws=name, dpi=50, against="again").model_dump()),
                load="width" if taxonomy or not drawing.study else "",
                temperature="batch_size" if taxonomy or not drawing.study else "",
            ),
        )
    shown = {"taxonomy_phases": "A caption."}
    explored = {"name": "own", "made": True, "about": "", "thresholds": {"rule": "nulls"}}
    kinds = ("performance", "hessian", "connectivity")
    explored |= {part: [tables(kind)[part] for kind in kinds] for part in ("scalars", "series")}
    done.run(
        "report",
        entries.REPORT,
        "report.py",
        input=Named(figures=[paths.figure("taxonomy_phases", "png")], claims=[paths.claims()]),
        output=Named(paths.page()),
        params=Named(
            captions=shown,
            config="own",
            experiments=json.dumps([explored]),
            units="{}",
            command="snakemake",
            look="",
            digest="0",
            adopted=["own"],
            missing=["own: no checkpoint of 1 of 2 cells: width=2"],
            accepted=[],
        ),
    )
    done.run(
        "export",
        entries.EXPORT,
        "export.py",
        input=Named(tables=[paths.claims()]),
        output=Named(paths.archive()),
        params=Named(cells=[], weights=False, config=json.dumps({"name": "own"})),
    )


def test_fingerprints_reach_all_that_jobs_call(traces: Traces) -> None:
    assert len(traces.called) > 50
    missing = {
        name: found
        for name, (asked, seen) in traces.called.items()
        if (found := traces.missing(asked, seen))
    }
    assert missing == {}


@pytest.mark.parametrize(
    ("job", "planted"),
    [
        ("train", "lossatlas.simplex.spro:grow"),
        ("train", "lossatlas.training.recorder:Recorder.begin"),
        ("train", "lossatlas.spec.parts:Recording.windows"),
        ("claims simplex", "lossatlas.claims.taxonomy:planted"),
        ("collect cka", "lossatlas.device:choose"),
    ],
)
def test_a_function_that_is_not_reached_is_found(traces: Traces, job: str, planted: str) -> None:
    asked, seen = traces.called[job]
    assert planted not in seen
    assert traces.missing(asked, {*seen, planted}) == [planted]


NOTED: list[tuple[str, str]] = [  # job, what it must have called: the traces are no empty ones
    ("dataset", "lossatlas.data.convert:convert"),
    ("train", "lossatlas.training.engine:Engine.train"),
    ("train", "lossatlas.spec.parts:Recipe.steps"),
    ("train, recorded and augmented", "lossatlas.data.augment:Augmentation.__call__"),
    ("train, recorded and augmented", "lossatlas.training.recorder:Recorder.begin"),
    ("adopt", "lossatlas.training.foreign:divide"),
    ("adopt", "lossatlas.models.outputs:check_outputs"),
    ("train, gone on", "lossatlas.training.ends:_recorded"),
    ("hessian, 0", "lossatlas.training.checkpoints:read_weights"),
    ("hessian, 0", "lossatlas.models:build"),
    ("distance, 0", "lossatlas.store:read"),
    ("claims simplex", "lossatlas.claims.simplex_checks:low_inside"),
    ("claims taxonomy", "lossatlas.tables.collect:cell_summary"),
    ("figure simplex_planes", "lossatlas.figures.simplex_landscape:planes"),
    ("report", "lossatlas.page.write:write"),
    ("report", "lossatlas.page.contents:_phases"),
    ("report", "lossatlas.page.runs:_runs"),
]


@pytest.mark.parametrize(("job", "called"), NOTED)
def test_traces_hold_what_jobs_do(traces: Traces, job: str, called: str) -> None:
    assert called in traces.called[job][1]


def test_every_kind_of_job_is_traced(traces: Traces) -> None:
    """A new script is a new kind of job; those that make no result have no fingerprint."""
    scripts = {path.stem for path in LIBRARY.parent.glob("*.py")}
    told = {"plan", "pilot", "status", "doctor", "taxonomy_import"}
    told.add("calibrate")  # no result depends on it
    told.add("download")  # verified by a hash
    asked = {one for entry, _ in traces.called.values() for one in entry}
    assert {f"script:{name}" for name in scripts - told} <= asked
