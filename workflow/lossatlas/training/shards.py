"""Weights in several files, or in a folder, as Hugging Face keeps them: which files these are."""

from __future__ import annotations

import json
from pathlib import Path

from lossatlas.errors import UserError

INDEX = ".index.json"
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_FIX = "give the file itself"


def file_in(folder: str) -> str:
    """Return the file of weights in a folder, or the index of several.

    Raises:
        UserError: If there is none, or more than one.
    """
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    for kinds in ((f".safetensors{INDEX}",), (f".bin{INDEX}",), *((one,) for one in _ENDINGS)):
        found = [name for name in names if name.endswith(kinds)]
        if len(found) == 1:
            return str(Path(folder) / found[0])
        if found:
            what = f"holds {len(found)} files of weights, {', '.join(found[:3])}, and no index"
            raise UserError(what, where=folder, fix=_FIX)
    held = ", ".join(names[:5]) or "nothing"
    what = f"holds no file of weights ({', '.join(_ENDINGS)}), but {held}"
    raise UserError(what, where=folder, fix="give a folder with one, or a file")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def shards(index: str) -> dict[str, list[str]]:
    """Return the files that an index names, each with the names of its tensors.

    Raises:
        UserError: If it is no such index, a file is not there, or lies in another folder.
    """
    try:
        given = json.loads(Path(index).read_text(encoding="utf-8"))
        named = {str(name): str(file) for name, file in given["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        what, fix = "is no index of shards", "give one with a 'weight_map', or a file of weights"
        raise UserError(what, where=index, fix=fix) from None
    files = list(dict.fromkeys(named.values()))
    for file in files:
        if Path(file).name != file or file in ("", ".", "..") or file.endswith(INDEX):
            what = f"names '{file[:100]}', which is no file beside it"
            raise UserError(what, where=index, fix="put all shards into its folder")
        if not _is_file(Path(index).parent / file):
            what = f"'{file[:100]}' is not there, one of {len(files)} shards"
            raise UserError(what, where=index, fix="put all shards beside the index")
    parent = Path(index).parent
    return {str(parent / file): [n for n, own in named.items() if own == file] for file in files}
