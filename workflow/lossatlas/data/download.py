"""Fetch a file of the datasets table: a folder first, then its mirrors; checked, all or nothing."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pooch
from requests.exceptions import ChunkedEncodingError, RequestException, Timeout
from requests.exceptions import ConnectionError as NoConnection

from lossatlas.data import hashes
from lossatlas.errors import UserError
from lossatlas.files import atomic
from lossatlas.spec.catalogue import DataSource

ATTEMPTS = 4  # per mirror
BACKOFF = 1.0  # seconds before the second attempt; doubles from then on
TIMEOUT = 30.0  # seconds without an answer or a byte
LATER = (408, 425, 429)  # client errors that mean "not now" rather than "never"

logger = logging.getLogger(__name__)


class MissingError(UserError):
    """No place has the file of a data set."""


class _RefusedError(Exception):
    """A place does not have the file that the table describes."""


def fetch(source: DataSource, target: Path, mirror_dir: str = "") -> None:
    """Put the file of `source` at `target`, from the first place that has the right one.

    Places are the folder `mirror_dir` (or, if that is empty, the environment variable
    LOSSATLAS_MIRROR), then the mirrors in their order. Each mirror is asked up to `ATTEMPTS` times,
    with doubling pauses, if its failure may pass: no answer, a cut connection, HTTP 5xx. The file
    is written under a temporary name beside `target` and renamed only when its size and SHA-256 are
    those of the table, so that a partial or foreign file never stands under the final name.

    Args:
        source: A row of the datasets table that names a file.
        target: Where the file shall be. A right file that is there already is kept.
        mirror_dir: Folder with files under the names of the table; also as a file:// address.

    Raises:
        ValueError: If the row names no file.
        MissingError: If no place has the right file; the message says what each answered.
        UserError: If the target cannot be written, or `mirror_dir` is no folder.
    """
    if source.embedded:
        raise ValueError(f"'{source.name}' comes with a package: there is nothing to fetch")
    if target.is_file() and not _difference(source, target):
        return
    failures = []
    folder = _folder(mirror_dir or os.environ.get("LOSSATLAS_MIRROR", ""))
    for place in [*([str(folder / source.file)] if folder else []), *source.mirrors]:
        try:
            with atomic(target) as temporary:
                _copy(place, temporary, source)
        except _RefusedError as error:
            logger.warning("%s: %s", place, error)
            failures.append(f"{place}: {error}")
        else:
            return
    raise MissingError(
        f"'{source.file}' could not be had: {'; '.join(failures) or 'the table names no mirror'}",
        where=source.name,
        fix=f"fetch it elsewhere, put it into a folder under the name '{source.file}', and name "
        "that folder as 'mirror_dir' in the config or in LOSSATLAS_MIRROR",
    )


def _folder(mirror_dir: str) -> Path | None:
    if not mirror_dir:
        return None
    if "://" not in mirror_dir:
        return Path(mirror_dir).expanduser()
    address = urlsplit(mirror_dir)
    if address.scheme != "file" or address.netloc not in ("", "localhost"):
        fix = "give a folder of this machine; addresses go into resources/datasets.tsv"
        raise UserError(f"'{mirror_dir}' is not a folder", where="mirror_dir", fix=fix)
    return Path(unquote(address.path))


def _copy(place: str, temporary: Path, source: DataSource) -> None:
    """Copy the file at an address or path, and check it."""
    scheme = urlsplit(place).scheme if "://" in place else ""
    if scheme in ("http", "https"):
        _download(place, temporary, source.size)
    elif scheme:
        raise _RefusedError(f"'{scheme}' is not http or https")
    else:
        try:
            with Path(place).open("rb") as file, temporary.open("wb") as out:
                shutil.copyfileobj(file, out)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            raise _RefusedError(error.strerror) from None
    if difference := _difference(source, temporary):
        raise _RefusedError(difference)


def _download(url: str, temporary: Path, size: int) -> None:
    # compressed transfer would be undone on the way, and with it the hash of an archive
    identity = {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT, headers=identity)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            get(url, str(temporary), None)
        except RequestException as error:
            reason = _reason(error)
            if not _may_pass(error):
                raise _RefusedError(reason) from None
        else:
            if temporary.stat().st_size >= size:
                return
            reason = f"cut off after {temporary.stat().st_size} of {size} bytes"
        if attempt < ATTEMPTS:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
    raise _RefusedError(f"{reason}, {ATTEMPTS} times")


def _may_pass(error: RequestException) -> bool:
    return error.response is None or error.response.status_code in (*LATER, *range(500, 600))


def _reason(error: RequestException) -> str:
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, Timeout):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, NoConnection | ChunkedEncodingError):
        return "no connection, or it broke"
    return f"{type(error).__name__}: {error}"


def _difference(source: DataSource, path: Path) -> str:
    """Say how a file differs from the table; empty if it does not."""
    size = path.stat().st_size
    if source.size and size != source.size and not source.repacked:
        return f"has {size} bytes, expected {source.size}{_page(path)}"
    what = hashes.difference(path, *source.sums)
    return what and f"{what}{_page(path)}"


def _page(path: Path) -> str:
    """Say that a file is a web page, as servers answer in place of a file; empty if it is none."""
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    return ": it is a web page" if start.startswith((b"<!doctype html", b"<html")) else ""
