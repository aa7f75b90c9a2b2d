"""Reads what `torch.save` wrote; of what stands beside the weights, stand-ins take the place.

Training scripts save their arguments, paths and best scores beside the weights, as objects that
torch does not make without running code of theirs. None of that code is imported or run here: a
stand-in of ours is made for each object of the usual kinds, and forgets what it is given.
"""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import torch

_TRIES = 20  # kinds of objects in a file of an older format, which are found one by one
_BESIDE = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|pathlib\.\w+|datetime\.\w+|uuid\.UUID"
    r"|collections\.(defaultdict|deque)|numpy(\.\w+)+|__main__\.\w+"
    r"|(builtins|__builtin__)\.(list|dict|set|tuple|int|float|str)"
    r"|(omegaconf|lightning|lightning_fabric|pytorch_lightning|timm|yacs|addict|easydict|munch"
    r"|ml_collections)(\.\w+)+"
)
_MAPPINGS = re.compile(r".*\.(defaultdict|AttributeDict|AttrDict|EasyDict|ConfigDict|CfgNode|Dict)")


class LeftOut:
    """Stands for an object beside the weights."""

    def __init__(self, *_: object) -> None:
        """Take what the object is made of, and forget it."""

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class _Mapping:
    """Stands for a kind of dictionary: what is made is a plain one."""

    def __new__(cls, *_: object) -> Any:
        return {}


def load(content: bytes) -> object:
    """Return what a file of `torch.save` holds, on the CPU.

    Raises:
        Exception: Any, if the file is damaged or holds objects of other kinds.
    """
    names = [name for name in unknown(content) if _BESIDE.fullmatch(name)]
    for _ in range(_TRIES):
        stand_ins: list[Any] = [(_Mapping if _MAPPINGS.fullmatch(n) else LeftOut, n) for n in names]
        try:
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            more = [name for name in _named(error) if _BESIDE.fullmatch(name)]
            if not more or more[0] in names:
                raise
            names += more
    raise pickle.UnpicklingError("too many kinds of objects")


def unknown(content: bytes) -> list[str]:
    """Return which objects a file brings along that torch does not know; of older formats none."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content))
    except Exception:  # noqa: BLE001 -- older formats, and no format at all
        return []


def objects_in(error: Exception, content: bytes) -> list[str]:
    """Return the objects for which torch did not read a file, without those of the usual kinds."""
    found = unknown(content) or _named(error)
    return sorted(name for name in found if not _BESIDE.fullmatch(name)) or sorted(found)


def _named(error: Exception) -> list[str]:
    return re.findall(r"GLOBAL ([\w.]+)", str(error))
