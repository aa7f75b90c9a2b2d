"""Commands are read by Snakemake as they are meant; what they ask for is planned elsewhere.

`tests/workflow/test_configs.py` runs those of the project's own folder as dry runs.
"""

import shlex

import pytest

import commands

FOUND = commands.documented()


def test_commands_of_all_sorts_of_documents_are_found() -> None:
    folders = {where.split("/")[0] for where in FOUND.values()}
    assert {"README.md", "docs", "config", "examples"} <= folders
    assert len(FOUND) > 30


@pytest.mark.parametrize("command", sorted(FOUND))
def test_an_option_takes_no_target(command: str) -> None:
    """`--configfile` takes all that follows it: a target stands before it, or after an option."""
    from snakemake.cli import parse_args

    _, given = parse_args(shlex.split(command))
    files = [str(file) for file in given.configfile or []]
    assert len(files) <= 1, FOUND[command]
    assert all(file.endswith(".yaml") or file == "FILE" for file in files), FOUND[command]
    known = ("results/", "-", "config")
    for target in given.targets:
        assert str(target).startswith(known) or str(target).isidentifier(), FOUND[command]
