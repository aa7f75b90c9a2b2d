"""Names that a config gives: what files, logs and targets of the workflow can be called by."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.spec.figures import FIGURES

if TYPE_CHECKING:
    from lossatlas.spec.config import Config

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PERIODIC = re.compile(r"(.+)\1{19}$")  # where Snakemake sees a rule that calls itself
LONGEST = 100  # characters: file systems take names of 255 bytes, and a log's has two of these

# Rules and targets of the workflow, those of figures and of kinds of metric left out.
TARGETS = frozenset(
    [
        *("all", "calibrate", "claims", "data", "doctor", "export", "export_with_weights"),
        "figures",
        *("metrics", "pilot", "plan", "report", "status"),
        *("taxonomy", "taxonomy_import", "simplex", "diffusion", "train"),
        *(
            "adopt",
            "all_claims",
            "collect",
            "dataset",
            "diffusion_metric",
            "download",
            "figure",
            "infer",
            "metric",
            "misspelt",
        ),
        *("reference", "refine", "simplexes", "study", "table", "train_replicas", "verdicts"),
    ]
)
_LOGS = frozenset({*paths.OWN_LOGS, *paths.SHARED_LOGS})
# Section of the config -> names that are taken in it, each in lower case.
TAKEN: dict[str, frozenset[str]] = {
    "experiments": frozenset({paths.REFERENCE, paths.STUDIES, "claims"}),
    "metrics": (TARGETS | _LOGS) - registry.built_in().keys(),
    "figures": (TARGETS | registry.built_in().keys()) - FIGURES.keys(),
}


def check(config: Config) -> None:
    """Refuse names that files or targets cannot have, or that others have already.

    Raises:
        UserError: With the section and the name.
    """
    check_config_name(config.name)
    for section in ("datasets", "models", "recipes", "metrics", "experiments", "figures"):
        for name in getattr(config, section):
            check_name(name, section)
    for section, taken in TAKEN.items():
        known: Iterable[str] = ()
        if section == "metrics":
            known = [
                *registry.built_in(),
                *(name for one in config.experiments.values() for name in one.metrics),
            ]
        elif section == "figures":
            known = FIGURES
        _check_free(getattr(config, section), taken, known, section)
    for name, settings in config.metrics.items():
        kind = settings.get("kind", name)
        if name in registry.built_in() and kind != name:
            what = f"'{name}' is a kind of metric, and this one is of the kind '{kind}'"
            raise UserError(what, where=f"metrics.{name}", fix="choose another name")
    for name, figure in config.figures.items():
        if name in FIGURES and figure.draws != name:
            what = f"'{name}' is a figure of its own, and this one draws '{figure.draws}'"
            raise UserError(what, where=f"figures.{name}", fix="choose another name")


def check_name(name: str, where: str) -> None:
    """Refuse what cannot stand in names of files and in Snakemake's patterns.

    Raises:
        UserError: If it has other characters, is too long, or repeats itself 20 times.
    """
    if not NAME.fullmatch(name):
        fix = "letters, digits and _, a letter first"
        raise UserError(f"'{name}' cannot be a name", where=where, fix=fix)
    _check_form(name, where)


def check_config_name(name: str) -> None:
    """Refuse a name of the whole config that cannot be a folder in results/, or is one there.

    Raises:
        UserError: With the nearest fix.
    """
    if not CONFIG_NAME.fullmatch(name):
        fix = "letters, digits, _, - and .; add 'name: <word>' to the config, or rename its file"
        raise UserError(f"'{name}' cannot be the name of a config", where="name", fix=fix)
    _check_form(name, "name")
    low = name.lower()
    if low in map(str.lower, paths.ENTRIES) or (low == paths.DEFAULT and name != paths.DEFAULT):
        what = f"'{name}' is taken in {paths.ROOT}/"
        raise UserError(what, where="name", fix=f"add 'name: my_{name}' to the config")


def _check_form(name: str, where: str) -> None:
    if len(name) > LONGEST:
        what = f"'{name[:20]}...' has {len(name)} characters, and names files"
        raise UserError(what, where=where, fix=f"at most {LONGEST}")
    if PERIODIC.search(name):
        what = f"'{name}' ends in 20 equal parts, which Snakemake takes for a loop"
        raise UserError(what, where=where, fix="choose another name")


def _check_free(
    names: Iterable[str], taken: frozenset[str], known: Iterable[str], where: str
) -> None:
    """Refuse names that the workflow has taken, and names that differ in case alone."""
    seen = {name.lower(): name for name in known}
    for name in names:
        low = name.lower()
        if low in taken:
            what = f"the workflow itself has a '{low}', so '{name}' cannot be a name"
            raise UserError(what, where=where, fix=f"choose another, such as 'my_{low}'")
        if (other := seen.setdefault(low, name)) != name:
            what = f"'{name}' and '{other}' differ in case alone, and some disks see one file"
            raise UserError(what, where=where, fix="choose another name for one of them")


def name_of(raw: Mapping[str, Any], files: Sequence[str | Path]) -> Any:
    """Return the name of a config: its own `name`, else that of the file with its experiments.

    Args:
        raw: The whole config.
        files: The files that it was read from.

    Raises:
        UserError: If it has neither.
    """
    if "name" in raw:
        return raw["name"]
    if not files:
        raise UserError("is missing", where="name", fix="add --config name=<word>")
    return "-".join(Path(file).stem for file in _with_experiments(files))


def _with_experiments(files: Sequence[str | Path]) -> list[str]:
    """Return, relative to the working folder, the files that hold experiments; else the last."""
    found = []
    for file in files if len(files) > 1 else ():
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
            if isinstance(content, dict) and "experiments" in content:
                found.append(os.path.relpath(file))
    return list(dict.fromkeys(found)) or [os.path.relpath(file) for file in files[-1:]]


def check_origin(name: str, files: Sequence[str | Path]) -> None:
    """Refuse a config whose name belongs to another one with results in this project.

    A file that was moved, or that is equal to the other one, may take its place.

    Raises:
        UserError: With both files.
    """
    now, before = _with_experiments(files), _origin(name)
    for entry in os.listdir(paths.base()) if os.path.isdir(paths.base()) else ():
        if entry.lower() == name.lower() and entry != name and _origin(entry):
            what = f"'{name}' and '{entry}', which has results here, differ in case alone"
            raise UserError(what, where="name", fix="add another 'name' to the config")
    with contextlib.suppress(OSError):  # the other file is gone
        if before and now != before and _contents(now) != _contents(before):
            what = f"{' and '.join(before)} has other contents and the same name, '{name}'"
            fix = f"add 'name: <another>' to {now[-1]}"
            raise UserError(what, where=" and ".join(now), fix=fix)


def remember(name: str, files: Sequence[str | Path]) -> None:
    """Note which files the results of a config come from; where nothing can be written, do not."""
    now = _with_experiments(files)
    if now and now != _origin(name):
        with contextlib.suppress(OSError):
            path = Path(paths.origin(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(now) + "\n", encoding="utf-8")


def _origin(name: str) -> list[str]:
    """Return the files that a config's results come from, as far as that is known."""
    try:
        return Path(paths.origin(name)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        default = f"{paths.DEFAULT}.yaml"
        return [default] if name == paths.DEFAULT and os.path.exists(default) else []


def _contents(files: Iterable[str]) -> list[bytes]:
    return [Path(file).read_bytes() for file in files]
