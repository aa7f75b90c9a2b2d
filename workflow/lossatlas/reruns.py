"""Which results are not what the config asks for, and why; results that are accepted as they are.

The workflow asks this of every job whose outputs are there (`rules/reruns.smk`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossatlas import made, paths, store
from lossatlas.errors import UserError
from lossatlas.files import atomic
from lossatlas.installed import check_snakemake
from lossatlas.installed import snakefile as find_snakefile
from lossatlas.made import Difference
from lossatlas.metrics import registry

VARIABLE = "LOSSATLAS_ACCEPT"  # tells a dry run what to accept (`lossatlas accept`)
ALL_RESULTS = ("all", "train", "metrics")  # targets that together are every result
MOST = 3  # reasons of one kind that are told


@dataclass(frozen=True)
class Accept:
    """Which results to accept under the code of the day, and the reason to record.

    Attributes:
        reason: In the user's words.
        steps: Names of metrics, "training" or other kinds of result; empty: all.
        experiments: Whose results; empty: all.
    """

    reason: str
    steps: frozenset[str] = frozenset()
    experiments: frozenset[str] = frozenset()

    @classmethod
    def asked(cls) -> Accept | None:
        """Return what the environment asks to accept."""
        text = os.environ.get(VARIABLE, "")
        if not text:
            return None
        given = json.loads(text)
        return cls(given["reason"], frozenset(given["steps"]), frozenset(given["experiments"]))

    def told(self) -> str:
        """Return it as the value of the environment variable."""
        parts = {"steps": sorted(self.steps), "experiments": sorted(self.experiments)}
        return json.dumps({"reason": self.reason, **parts})


@dataclass
class Reruns:
    """Compares results with what the config asks for, and collects the reasons.

    Attributes:
        accept: What to accept on the way.
        why: First output of each result that is not valid -> (step, texts).
        accepted: Steps of results that were accepted just now.
        refused: First output -> step of what was asked for and differs in more than code.
    """

    accept: Accept | None = None
    why: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = read_accepted()

    def texts(
        self,
        step: str,
        experiments: Iterable[str],
        outputs: Sequence[str],
        params: Mapping[str, Any],
        inputs: Iterable[str],
        changed: Callable[[str, str], list[str]] = lambda _before, _now: [],
    ) -> list[str]:
        """Return why the outputs of a job are not valid; [] if they are.

        Args:
            step: Kind of result, such as the name of a metric.
            experiments: Those that it belongs to.
            outputs: Paths of all outputs of the job.
            params: Of the job, its code among them.
            inputs: Paths of its inputs.
            changed: From two digests of code to the definitions that differ.
        """
        code = str(params.get("code", ""))
        found = made.differences(outputs, params.items(), code, inputs)
        if found and self._is_accepted(outputs, code, found):
            found = []
        elif found and self._wants(step, experiments):
            found = self._try(step, outputs, code, found)
        texts = [text for one in found for text in _texts(one, outputs, params, changed)]
        if texts:
            self.why[outputs[0]] = step, texts
        else:
            self.why.pop(outputs[0], None)
        return texts

    def _is_accepted(self, outputs: Sequence[str], code: str, found: list[Difference]) -> bool:
        known = self._known.get(outputs[0])
        same = known is not None and known["code"] == code and known["stamp"] == _stamp(outputs)
        return same and all(one.kind == "code" for one in found)

    def _wants(self, step: str, experiments: Iterable[str]) -> bool:
        if self.accept is None:
            return False
        of = not self.accept.experiments or bool(self.accept.experiments & set(experiments))
        return of and (not self.accept.steps or step in self.accept.steps)

    def _try(
        self, step: str, outputs: Sequence[str], code: str, found: list[Difference]
    ) -> list[Difference]:
        """Accept a result if nothing but code differs."""
        assert self.accept is not None
        if any(one.kind != "code" for one in found):
            self.refused[outputs[0]] = step
            return found
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = {"stamp": _stamp(outputs), "code": code, "reason": self.accept.reason, "when": when}
        self._known[outputs[0]] = {**entry, "step": step}
        self.accepted[step] += 1
        return []

    def reasons(self) -> list[str]:
        """Return the reasons for which results were accepted, with their steps and numbers."""
        counts = Counter((entry["step"], entry["reason"]) for entry in self._known.values())
        return [f"{step} ({count}): {why}" for (step, why), count in sorted(counts.items())]

    def close(self) -> None:
        """Write what was accepted.

        Raises:
            UserError: If the file cannot be written.
        """
        if self.accepted:
            with atomic(paths.accepted()) as temporary:
                temporary.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n")

    def summary(self) -> list[str]:
        """Return a line for each step and reason, with the number of results."""
        counts: dict[tuple[str, str], int] = Counter(
            (step, text) for step, texts in self.why.values() for text in texts
        )
        lines = [
            f"{step}: {count} {'results' if count > 1 else 'result'} not valid: {text}"
            for (step, text), count in sorted(counts.items(), key=lambda one: (one[0][0], -one[1]))
        ]
        if any("code changed" in line for line in lines):
            lines.append(
                "to keep results that only code makes differ: lossatlas accept --reason TEXT"
            )
        return lines


def accept(chosen: Accept, configs: Sequence[str]) -> int:
    """Accept results of the project in the working folder, by a dry run of all its jobs.

    Returns:
        The exit code of Snakemake.

    Raises:
        UserError: If there is no Snakemake, no workflow, or one of another version.
    """
    return dry_run(configs, VARIABLE, chosen.told())


def dry_run(configs: Sequence[str], variable: str, value: str) -> int:
    """Let the workflow look at all jobs of the project in the working folder, and run none.

    Args:
        configs: Files, as after `--configfile`; none: config.yaml.
        variable: Of the environment, which tells `rules/run.smk` what is asked.
        value: Of that variable.

    Returns:
        The exit code of Snakemake.

    Raises:
        UserError: If there is no Snakemake, no workflow, one of another version, or no such config.
    """
    check_snakemake()
    snakefile = ["-s", str(find_snakefile())]
    for file in configs or [f"{paths.DEFAULT}.yaml"]:
        if not os.path.isfile(file):
            fix = "give --configfile FILE, and start in the folder of the results"
            raise UserError("there is no such config here", where=file, fix=fix)
    command = [sys.executable, "-m", "snakemake", *ALL_RESULTS, *snakefile, "--dry-run"]
    command += ["--configfile", *configs] if configs else []
    environment = {**os.environ, variable: value}
    done = subprocess.run(  # noqa: S603 -- our own interpreter
        command, env=environment, check=False, stdout=subprocess.DEVNULL
    )
    return done.returncode


def read_accepted() -> dict[str, dict[str, str]]:
    """Return first output -> stamp, code, reason, when and step of accepted results.

    Raises:
        UserError: If the file is damaged.
    """
    path = Path(paths.accepted())
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): dict(value) for key, value in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        fix = "put a copy of it back, or delete it: its results then run again"
        raise UserError(f"damaged: {error}", where=str(path), fix=fix) from None


def _stamp(outputs: Sequence[str]) -> str:
    return " ".join(made.stamp(path) for path in outputs)


def _texts(
    one: Difference,
    outputs: Sequence[str],
    params: Mapping[str, Any],
    changed: Callable[[str, str], list[str]],
) -> list[str]:
    """Return a difference in words."""
    if one.kind == "unknown":
        return ["nothing says what made it, or it was changed since"]
    if one.kind == "input":
        return [f"input {_kind_of(one.name)} is another one"]
    if one.kind == "code":
        names = changed(one.before, one.now)
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        return [f"code changed{': ' if names else ''}{', '.join(names[:MOST])}{more}"]
    if one.name == "settings":
        return _settings(outputs, params) or ["settings changed"]
    if "#" in (one.before[:1], one.now[:1]):
        return [f"{one.name} changed"]
    return [f"{one.name} {one.before or 'none'} -> {one.now or 'none'}"]


def _kind_of(path: str) -> str:
    """Return an input's name without its cell: many results have one reason."""
    parts = path.split("/")
    return "/".join(parts[3:]) if parts[1:2] == ["cells"] else path


def _settings(outputs: Sequence[str], params: Mapping[str, Any]) -> list[str]:
    """Return the settings of a metric that differ, by name and value."""
    try:
        before = store.read_about(outputs[0]).settings
        now = json.loads(params["settings"])
        free = registry.find(params["kind"]).costs_only  # memory or time; a record notes them too
    except (UserError, KeyError, ValueError, TypeError):
        return []
    names = sorted({*before, *now} - {*free})
    return [
        f"setting {name} {json.dumps(before.get(name))} -> {json.dumps(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]
