"""Results as one file to hand on: records, tables, figures and the config, without weights.

`snakemake export` packs them; `lossatlas import` puts them into another project, where they count
as done, because each says itself what made it (`made`). An archive may come from anybody: it is
read as data, and what it would write is checked first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from lossatlas import __version__, paths
from lossatlas.errors import UserError
from lossatlas.files import atomic

MANIFEST = "lossatlas.json"
SCHEMA = 1
_PART = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._=+-]*")  # of a path of ours
_ENDINGS = (".h5", ".csv", ".png", ".pdf", ".yaml", ".made", ".safetensors")
_WEIGHTS = ("train", "ends", "vertices")  # folders of a cell whose safetensors are weights
_MOST = 1 << 27  # bytes of a manifest
_LONGEST, _DEEPEST = 150, 12  # characters and parts of a path: file systems take names of 255 bytes
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Imported:
    """What became of the files of an archive.

    Attributes:
        name: Of the config.
        new: Files that were written.
        same: Files that were there already, with the same content.
        kept: Files that were there with another content, and stay.
        config: The file that holds the config; "" if another one of that name was there.
    """

    name: str
    new: list[str]
    same: list[str]
    kept: list[str]
    config: str


def files_of(cells: Iterable[str], *, weights: bool) -> list[str]:
    """Return the results of the config in use: its own, those of its cells, and shared ones.

    Args:
        cells: Ids of its cells.
        weights: Whether trained weights come, too.
    """
    roots = [*paths.own_results(), *(paths.cell(cell) for cell in cells)]
    found = [file for root in roots for file in _walk(root)]
    return sorted({file for file in found if weights or not _is_weights(file)})


def _walk(root: str) -> list[str]:
    if os.path.isfile(root):
        return [root]
    found = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    return [file.replace(os.sep, "/") for file in found if _is_ours(file.replace(os.sep, "/"))]


def _is_ours(file: str) -> bool:
    *folders, name = file.split("/")
    hidden = any(part.startswith(".") for part in folders)  # of a job at work
    named = all(_PART.fullmatch(part) for part in (*folders, name))
    return named and not hidden and name.endswith(_ENDINGS)


def _is_weights(file: str) -> bool:
    return file.endswith(".safetensors") and file.split("/")[-2] in _WEIGHTS


def pack(
    target: str, files: Iterable[str], name: str, config: str, accepted: Mapping[str, Any]
) -> None:
    """Write an archive.

    Args:
        target: The .zip to write.
        files: Results, relative to the folder of the project.
        name: Of the config.
        config: The config, as YAML.
        accepted: Results that count as valid under newer code (`reruns.read_accepted`).

    Raises:
        UserError: If a file cannot be read, or the archive not be written.
    """
    listed = {}
    with atomic(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as out:
        for file in files:
            listed[file] = _add(out, file)
        about = {"schema": SCHEMA, "lossatlas": __version__, "name": name, "config": config}
        about["accepted"] = {key: value for key, value in accepted.items() if key in listed}
        out.writestr(MANIFEST, json.dumps({**about, "files": listed}, sort_keys=True))


def _add(out: zipfile.ZipFile, file: str) -> tuple[int, str]:
    """Add one file, without its time, so that archives compare. Return its size and SHA-256."""
    info, found, size = zipfile.ZipInfo(file), hashlib.sha256(), 0
    info.compress_type = zipfile.ZIP_DEFLATED
    with open(file, "rb") as source, out.open(info, "w", force_zip64=True) as written:
        while part := source.read(_CHUNK):
            found.update(part)
            written.write(part)
            size += len(part)
    return size, found.hexdigest()


def _digest(file: str | os.PathLike[str]) -> str:
    with open(file, "rb") as read:
        return hashlib.file_digest(read, "sha256").hexdigest()


def unpack(archive: str) -> Imported:
    """Put the results of an archive into the project in the working folder.

    Nothing that is there is replaced. Each file is compared with the archive's list before it gets
    its name; a name that leads out of `results/` refuses the archive.

    Raises:
        UserError: If it is no such archive, is damaged, or does not fit on the disk.
    """
    if not os.path.isfile(archive):
        raise UserError("there is no such file", where=archive)
    try:
        with zipfile.ZipFile(archive) as read:
            about = _manifest(read, archive)
            files = about["files"]
            _check_room(files, archive)
            _check_folders(files)
            done: dict[str, list[str]] = {"new": [], "same": [], "kept": []}
            for file, (size, digest) in files.items():
                done[_put(read, file, size, digest, archive)].append(file)
    except UserError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it is cut off"
        raise _refused(reason, archive) from None
    accepted = {key: value for key, value in about["accepted"].items() if key in done["new"]}
    _accept(accepted)
    return Imported(about["name"], **done, config=_write_config(about))


def _refused(what: str, archive: str) -> UserError:
    fix = "ask for it again: `snakemake export` writes it"
    return UserError(f"is no archive of results, or damaged: {what}", where=archive, fix=fix)


def _manifest(read: zipfile.ZipFile, archive: str) -> dict[str, Any]:
    """Return the list of an archive, checked."""
    try:
        if read.getinfo(MANIFEST).file_size > _MOST:
            raise _refused("its list is too long", archive)
        about = json.loads(read.read(MANIFEST))
        schema, files = int(about["schema"]), dict(about["files"])
        name, config, accepted = about["name"], about["config"], dict(about["accepted"])
        if not (isinstance(name, str) and isinstance(yaml.safe_load(config), dict)):
            raise TypeError
        files = {str(file): (int(size), str(digest)) for file, (size, digest) in files.items()}
        accepted = {
            str(file): {str(key): str(value) for key, value in entry.items()}
            for file, entry in accepted.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        raise _refused(f"it has no {MANIFEST} as it should be", archive) from None
    if schema != SCHEMA:
        raise _refused(f"it is of schema {schema}, and this version reads {SCHEMA}", archive)
    if not _PART.fullmatch(name) or len(name) > _LONGEST:
        raise _refused("the name of its config is none", archive)
    sizes = {one.filename: one.file_size for one in read.infolist()}
    if sorted([*files, MANIFEST]) != sorted(read.namelist()):
        raise _refused("it holds other files than its list names", archive)
    for file, (size, _) in files.items():
        parts = PurePosixPath(file).parts
        fits = 2 < len(parts) <= _DEEPEST and max(map(len, parts)) <= _LONGEST
        ours = fits and parts[0] == paths.ROOT and _is_ours(file)
        if not ours or ".." in parts or "/".join(parts) != file:
            raise _refused(f"it would write {file[:_LONGEST]!r}", archive)
        if sizes[file] != size:
            raise _refused(f"{file} is not as its list says", archive)
    return {"name": name, "config": config, "accepted": accepted, "files": files}


def _check_room(files: Mapping[str, tuple[int, str]], archive: str) -> None:
    needed, free = sum(size for size, _ in files.values()), shutil.disk_usage(".").free
    if needed > free:
        what = f"its files take {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
        raise UserError(what, where=archive, fix="free some space, or start on another disk")


def _check_folders(files: Iterable[str]) -> None:
    """Refuse what stands in the place of a folder, before anything is written."""
    parents = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    for folder in sorted(parents - {"."}):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            fix = "move it away, then import again"
            raise UserError("is no folder, and results are to come into it", where=folder, fix=fix)


def _put(read: zipfile.ZipFile, file: str, size: int, digest: str, archive: str) -> str:
    """Write one file, unless there is one of its name; return what became of it."""
    if os.path.lexists(file):
        return "same" if os.path.isfile(file) and _digest(file) == digest else "kept"
    found, left = hashlib.sha256(), size
    with atomic(file) as temporary, temporary.open("wb") as out, read.open(file) as source:
        while left and (part := source.read(min(left, _CHUNK))):
            found.update(part)
            out.write(part)
            left -= len(part)
        if left or found.hexdigest() != digest:
            raise _refused(f"{file} is not what its list says", archive)
    return "new"


def _accept(entries: Mapping[str, Any]) -> None:
    """Add to the results that count as valid under newer code."""
    if not entries:
        return
    from lossatlas.reruns import read_accepted

    with atomic(paths.accepted()) as temporary:
        known = {**entries, **read_accepted()}
        temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _write_config(about: Mapping[str, Any]) -> str:
    """Write the config beside the results, if there is none of its name."""
    file = f"{about['name']}.yaml"
    if os.path.lexists(file):
        same = os.path.isfile(file) and Path(file).read_bytes() == about["config"].encode()
        return file if same else ""
    with atomic(file) as temporary:
        temporary.write_text(about["config"], encoding="utf-8")
    return file


def told(found: Imported) -> list[str]:
    """Return in words what was imported, and what to do next."""
    lines = [f"{len(found.new)} files of the config '{found.name}' imported"]
    if found.same:
        lines[0] += f"; {len(found.same)} were there already"
    if found.kept:
        first = ", ".join(found.kept[:3]) + (", ..." if found.kept[3:] else "")
        lines.append(
            f"{len(found.kept)} files are there with another content, and were kept: {first}"
            " (to take those of the archive, move them away and import again)"
        )
    config = found.config or f"{found.name}.yaml"
    if not found.config:
        lines.append(f"another {config} was there, and was kept: these results are not its")
    else:
        lines.append(f"its config: {config}")
    if Path("Snakefile").exists():
        lines.append(f"what is left to do: snakemake -n --configfile {config}")
    return lines
