"""The command line: one metric, one training, or one file, without Snakemake."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from lossatlas import __version__, installed, plugins, progress, project_commands, store
from lossatlas.differences import differences
from lossatlas.entry import find_user_modules
from lossatlas.errors import UserError, out_of_memory
from lossatlas.files import check_own, check_place
from lossatlas.metrics import registry
from lossatlas.spec import spelling
from lossatlas.spec.kinds import numbers

TASK = "what the network is for, such as regression; default: classification"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake is one line and exit code 1 (2 for the command line itself).

    Ctrl-C is one line, too, and exit code 130.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        installed.check_command(words)
        return _run(_parser().parse_args(words))
    except UserError as error:
        print(f"lossatlas: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (lacking := installed.lacking(error)) is None:
            raise
        print(f"lossatlas: {lacking}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        fix = "fewer images at once (`chunk`, `samples`), a smaller network, or more memory"
        print(f"lossatlas: out of memory ({fix})", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("lossatlas: interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    find_user_modules()
    if (other := installed.other_project()) is not None:
        print(f"lossatlas: {other}", file=sys.stderr)
    if getattr(options, "no_plugins", False):
        plugins.turn_off()
    return int(options.run(options) or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lossatlas", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    several: dict[str, Any] = {"action": "extend", "nargs": "*", "default": []}

    metric = commands.add_parser("metric", help="measure one metric of checkpoints or of a cell")
    metric.add_argument(
        "name", metavar="NAME", help=f"{', '.join(registry.built_in())}, or package.module:object"
    )
    metric.add_argument("--checkpoint", **several, metavar="FILE", help="one file per replica")
    metric.add_argument("--model", help="built-in name, or package.module:object")
    metric.add_argument("--data", help="name, .h5, .npz or package.module:object")
    metric.add_argument("--task", default="", help=TASK)
    metric.add_argument(
        "--cell", help="in place of these three: a cell of the workflow, or a file in its folder"
    )
    metric.add_argument(
        "--seed", **several, type=int, metavar="SEED", help="replicas of the cell; default: all"
    )
    metric.add_argument("--arg", **several, metavar="KEY=VALUE", help="of the model")
    metric.add_argument("--set", **several, metavar="KEY=VALUE", help="of the metric")
    _add_pixels(metric)
    metric.add_argument("--out", metavar="FILE.h5", help="write the record there too")
    metric.add_argument("--threads", type=int, default=0, help="CPU threads; default: torch's own")
    metric.set_defaults(run=_metric)

    plane = commands.add_parser("plane", help="loss on the plane through three checkpoints")
    plane.add_argument(
        "--checkpoint", action="extend", nargs="+", required=True, metavar="FILE", help="three"
    )
    plane.add_argument("--model", required=True, help="built-in name, or package.module:object")
    plane.add_argument("--data", required=True, help="name, .h5, .npz or package.module:object")
    plane.add_argument("--task", default="", help=TASK)
    plane.add_argument("--arg", **several, metavar="KEY=VALUE", help="of the model")
    _add_pixels(plane)
    plane.add_argument("--points", type=int, default=21, help="along each side; default 21")
    plane.add_argument("--images", type=int, default=512, help="training images; default 512")
    plane.add_argument("-o", "--out", nargs="+", required=True, metavar="FILE", help=".h5, .png")
    plane.add_argument("--threads", type=int, default=0, help="CPU threads; default: torch's own")
    plane.set_defaults(run=_plane)

    train = commands.add_parser("train", help="train replicas of a cell, given its spec.yaml")
    train.add_argument("--spec", required=True, help="a cell's spec.yaml")
    train.add_argument("--data", required=True, help="the converted data set (.h5)")
    train.add_argument("--seeds", nargs="+", type=int, default=[0])
    train.add_argument("--out", required=True, help="prefix of the two files to write")
    train.set_defaults(run=_train)

    for command in (metric, plane, train):
        command.add_argument(
            "--no-plugins", action="store_true", help="import no model and no data of your own"
        )

    diff = commands.add_parser("diff", help="say where two result files differ")
    diff.add_argument("first")
    diff.add_argument("second")
    diff.set_defaults(run=_diff)

    project_commands.add(commands)

    show = commands.add_parser("show", help="print what a result file holds")
    show.add_argument("file")
    show.set_defaults(run=_show)

    schema = commands.add_parser("schema", help="print the JSON schema of the config")
    schema.set_defaults(run=_schema)
    return parser


def _add_pixels(command: argparse.ArgumentParser) -> None:
    what = "what the network was trained on: pixels standardised by the mean and s.d. of the data"
    command.add_argument(
        "--pixels",
        choices=["standardised", "unit"],
        default="standardised",
        help=f"{what} (the default), or in [0, 1]",
    )


def _tell_of_pixels(record: store.Record, options: argparse.Namespace) -> None:
    """Say how pixels became inputs: a network that was trained on others gives wrong numbers."""
    if options.pixels == "standardised" and (mean := record.spec.get("mean")):
        mean, std = (", ".join(f"{v:.3g}" for v in part) for part in (mean, record.spec["std"]))
        what = f"pixels are standardised by mean {mean} and s.d. {std}"
        fix = (
            "of a network trained on pixels in [0, 1]: --pixels unit; or give the .npz mean and std"
        )
        print(f"lossatlas: {what} ({fix})", file=sys.stderr)


def _pairs(texts: Sequence[str], option: str) -> dict[str, Any]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"'{text}' is not KEY=VALUE", where=option)
        if key in found:
            raise UserError(f"'{key}' is there twice", where=option, fix="leave one of them out")
        found[key] = numbers(spelling.value(value, f"{option} {key}"))
    return found


def _metric(options: argparse.Namespace) -> None:
    kind, chosen = registry.find(options.name), _pairs(options.set, "--set")
    settings = registry.with_settings(kind, chosen, "--set")
    own = {key: getattr(options, key) for key in ("checkpoint", "model", "data", "task", "arg")}
    _check_source(options, own)
    from lossatlas import device
    from lossatlas.custom import measure_custom, measure_stored

    if options.out:
        if not options.out.endswith(".h5"):
            raise UserError(f"'{options.out}' is no .h5", where="--out", fix="end it in .h5")
        _check_out([options.out], "--out", [*options.checkpoint, *filter(None, [options.data])])
    if options.threads:
        device.set_threads(options.threads)
    if options.cell:
        with progress.shown():
            record = measure_stored(settings, options.cell, options.seed)
    else:
        own["arg"] = _pairs(options.arg, "--arg")
        unit = options.pixels == "unit"
        given = (own["checkpoint"], own["model"], own["arg"], own["data"], own["task"])
        with progress.shown():
            record = measure_custom(settings, *given, unit_pixels=unit)
        _tell_of_pixels(record, options)
    if options.out:
        store.write(options.out, record)
    _print(record)


# How files begin that a command may write over: records; weights and their safetensors' header.
_RECORD = (b"Loss Atlas record",)
_BEGIN = {".h5": _RECORD, ".png": (b"\x89PNG",), ".pdf": (b"%PDF",)}


def _check_out(files: Sequence[str], option: str, given: Sequence[str] = ()) -> None:
    """Refuse outputs that replace what the user gave or what is no result, or cannot be written.

    Raises:
        UserError: With the file.
    """
    for file in files:
        if any(
            os.path.exists(file) and os.path.realpath(file) == os.path.realpath(g) for g in given
        ):
            what, fix = f"'{file}' is read by this command", "give another name"
            raise UserError(what, where=option, fix=fix)
        check_own(file, option, kinds=_BEGIN.get(os.path.splitext(file)[1], _RECORD))
        check_place(file)


def _check_source(options: argparse.Namespace, own: dict[str, Any]) -> None:
    """Refuse a command that names neither one's own checkpoints, whole, nor a cell; or both."""
    for option, given in own.items():
        if options.cell and given:
            raise UserError(f"--{option} is what --cell has already", fix="leave one of them out")
        if not (options.cell or given or option in ("arg", "task")):
            fix = "give --checkpoint, --model and --data; or --cell"
            raise UserError(f"--{option} is missing", fix=fix)
    if options.seed and not options.cell:
        raise UserError("--seed is of a cell", fix="give --cell, or leave it out")


def _plane(options: argparse.Namespace) -> None:
    for file in options.out:
        if not file.endswith((".h5", ".png", ".pdf")):
            fix = "end it in .h5, .png or .pdf"
            raise UserError(f"'{file}' is of no known format", where="--out", fix=fix)
    for option in ("points", "images"):
        least = {"points": 2, "images": 1}[option]
        if getattr(options, option) < least:
            what = f"{getattr(options, option)} is too few"
            raise UserError(what, where=f"--{option}", fix=f"at least {least}")
    _check_out(options.out, "--out", [*options.checkpoint, options.data])
    from lossatlas import device
    from lossatlas.custom import draw_plane, plane_custom

    if options.threads:
        device.set_threads(options.threads)
    arguments = _pairs(options.arg, "--arg")
    with progress.shown():
        record = plane_custom(
            options.checkpoint,
            options.model,
            arguments,
            options.data,
            options.task,
            points=options.points,
            images=options.images,
            unit_pixels=options.pixels == "unit",
        )
    _tell_of_pixels(record, options)
    for file in options.out:
        if file.endswith(".h5"):
            store.write(file, record)
        else:
            draw_plane(record, file)
    _print(record)


def _train(options: argparse.Namespace) -> None:
    from lossatlas import entries
    from lossatlas.data.own import register_converted
    from lossatlas.fingerprint import code_of
    from lossatlas.spec.config import cell_of
    from lossatlas.training import checkpoints
    from lossatlas.training.job import train_block

    if os.path.exists(options.spec) and not os.path.isfile(options.spec):
        raise UserError("is no regular file", where=options.spec, fix="give a cell's spec.yaml")
    try:
        with open(options.spec, encoding="utf-8") as file:
            text = file.read()
        spelling.check(text, options.spec)
        spec = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"cannot be read: {error}", where=options.spec) from None
    if os.path.isfile(options.data):
        register_converted(store.read(options.data, "dataset"))
    cell = cell_of(spec, options.spec)
    if cell.adopted:
        what = "was trained elsewhere, in a way that is not known"
        raise UserError(what, where=options.spec, fix="give the specification of a trained cell")
    code = code_of(*entries.training(cell))
    files = (f"{options.out}.safetensors", f"{options.out}.h5")
    _check_out(files[1:], "--out", [options.data])
    check_own(files[0], "--out")
    if os.path.exists(files[0]):
        checkpoints.check_ours(files[0], "--out")
    train_block(cell.spec, sorted(set(options.seeds)), options.data, *files, code)


def _check_result(file: str) -> None:
    """Refuse what is no result by its name: the advice for a damaged result is to delete it."""
    if not file.endswith(".h5"):
        raise UserError("is no result", where=file, fix="give an .h5 file from 'results/'")


def _diff(options: argparse.Namespace) -> int:
    _check_result(options.first)
    _check_result(options.second)
    found = differences(options.first, options.second)
    print("\n".join(found) or "equal (times and hosts left out)")
    return 1 if found else 0


def _show(options: argparse.Namespace) -> None:
    _check_result(options.file)
    record = store.read(options.file)
    about = {"kind": record.kind, "status": record.status, "mode": record.mode}
    for title, part in (("", about), ("spec", record.spec), ("settings", record.settings)):
        if part:
            print(f"{title}: {json.dumps(part)}" if title else json.dumps(part))
    print(f"provenance: {json.dumps(record.provenance)}")
    _print(record)
    for name, array in record.arrays.items():
        print(f"array {name} {list(array.values.shape)} {array.axes} {array.unit}".rstrip())
    for curve in record.series:
        print(f"series {_which(curve)}: {len(curve.x)} points over {curve.x_name}")
    for table in record.tables:
        print(f"table {_which(table)}: {len(table)} rows of {', '.join(table.columns)}")


def _which(part: store.Series | store.Table) -> str:
    """Return what tells a curve or table from others."""
    index = [f"{key}={value}" for key, value in part.index.items()]
    who = "-".join(str(seed) for seed in (part.replica, part.partner) if seed is not None)
    return " ".join([part.name, *index, *([who] if who else [])])


def _print(record: store.Record) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("metric", "replica", "partner", "value", "stderr", "unit", "status"):
        table.add_column(column, justify="right" if column in {"value", "stderr"} else "left")
    for s in record.scalars:
        who = ["" if seed is None else str(seed) for seed in (s.replica, s.partner)]
        numbers = ["" if number != number else f"{number:.6g}" for number in (s.value, s.stderr)]
        table.add_row(s.name, *who, *numbers, s.unit, s.status)
    Console(soft_wrap=True).print(table)


def _schema(_: argparse.Namespace) -> None:
    from lossatlas.spec.config import json_schema

    print(json.dumps(json_schema(), indent=2))


if __name__ == "__main__":
    sys.exit(main())
