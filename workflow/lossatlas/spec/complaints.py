"""Pydantic's complaints as one line."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lossatlas.errors import UserError, nearest

_BRANCHES = ("int", "list[", "constrained-")  # what Pydantic calls the branches of a union


def explain(error: ValidationError, part: type[BaseModel]) -> UserError:
    """Turn the first of Pydantic's complaints into one line.

    Args:
        error: What Pydantic says.
        part: What it was to be, for the keys that may stand there.
    """
    first = error.errors()[0]
    keys = [str(key) for key in first["loc"] if not str(key).startswith(_BRANCHES)]
    where = ".".join(keys) or "config"
    if first["type"] == "extra_forbidden":
        parent = ".".join(keys[:-1])
        fix = nearest(keys[-1], _valid_keys(part, keys[:-1]))
        return UserError(f"unknown key '{keys[-1]}'", where=parent or "config", fix=fix)
    if first["type"] == "missing":
        return UserError("is missing", where=where, fix="add it; config/README.md says what it is")
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    whole = isinstance(given, dict) and first["type"] == "value_error"  # says what it is about
    if whole or (isinstance(given, dict | list) and len(str(given)) > 60):
        return UserError(message, where=where)
    return UserError(f"{message}, not {given!r}", where=where)


def _valid_keys(part: Any, keys: list[str]) -> list[str]:
    """Return the keys that may stand at a place inside a part."""
    for key in keys:
        if get_origin(part) is dict:
            part = get_args(part)[1]
        elif _is_model(part) and key in part.model_fields:
            part = part.model_fields[key].annotation
            if get_origin(part) is not dict:  # "this or None"
                part = next((one for one in get_args(part) if _is_model(one)), part)
        else:
            return []
    return list(part.model_fields) if _is_model(part) else []


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
