"""Commands of `lossatlas` on the project in the working folder: accept, prune, import."""

from __future__ import annotations

import argparse
from typing import Any

from lossatlas.errors import UserError


def add(commands: Any) -> None:
    """Add them to the subcommands of the command line."""
    accept = commands.add_parser(
        "accept", help="let existing results count as valid under the code of the day"
    )
    several: dict[str, Any] = {"action": "extend", "nargs": "*", "default": []}
    accept.add_argument("--reason", required=True, help="recorded, and shown in the report")
    accept.add_argument("--only", **several, metavar="STEP", help="training, or names of metrics")
    accept.add_argument("--experiment", **several, metavar="NAME", help="default: all")
    accept.add_argument("--configfile", nargs="*", default=[], metavar="FILE")
    accept.set_defaults(run=_accept)

    prune = commands.add_parser("prune", help="weights that no wanted metric needs any more")
    prune.add_argument("--yes", action="store_true", help="remove them; else they are counted")
    prune.add_argument("--configfile", nargs="*", default=[], metavar="FILE")
    prune.set_defaults(run=_prune)

    bring = commands.add_parser("import", help="take up results that `snakemake export` packed")
    bring.add_argument("archive", help="the .zip; its results come into the working folder")
    bring.set_defaults(run=_import)


def _accept(options: argparse.Namespace) -> int:
    from lossatlas.reruns import Accept, accept

    if not options.reason.strip():
        raise UserError("is empty", where="--reason", fix="say why the results are still right")
    chosen = Accept(options.reason, frozenset(options.only), frozenset(options.experiment))
    return accept(chosen, options.configfile)


def _prune(options: argparse.Namespace) -> int:
    from lossatlas.prune import prune

    return prune(options.configfile, remove=options.yes)


def _import(options: argparse.Namespace) -> None:
    from lossatlas import bundle

    print("\n".join(bundle.told(bundle.unpack(options.archive))))
