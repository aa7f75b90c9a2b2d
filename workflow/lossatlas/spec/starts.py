"""Files of weights from which training starts, known by their content."""

from __future__ import annotations

from pathlib import Path

from lossatlas import contents
from lossatlas.errors import UserError
from lossatlas.spec.parts import ModelPart

_files: dict[str, str] = {}  # of this process: SHA-256 -> file


def resolve(part: ModelPart, where: str) -> ModelPart:
    """Return a network whose start is named by the content of its file.

    Args:
        part: Of the config: `start_from` is a file, or a folder with one safetensors file.
        where: Its key, for messages.

    Raises:
        UserError: If there is no such file, or it cannot be read.
    """
    if not part.start_from:
        return part
    file = _file(part.start_from, f"{where}.start_from")
    digest = contents.digests([file], f"{where}.start_from")[file]
    _files[digest] = file
    return part.model_copy(update={"start_from": digest})


def file_of(digest: str) -> str:
    """Return the file that has this content."""
    return _files[digest]


def _file(given: str, where: str) -> str:
    path = Path(given)
    if not path.exists():
        raise UserError(f"no such file '{given}'", where=where, fix="correct the path")
    if not path.is_dir():
        return given
    found = sorted(str(one) for one in path.glob("*.safetensors"))
    if len(found) != 1:
        what = f"'{given}' has {len(found)} files *.safetensors"
        raise UserError(what, where=where, fix="name the one file that has all weights")
    return found[0]
