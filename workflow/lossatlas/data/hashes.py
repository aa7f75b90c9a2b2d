"""Whether a file is the one that the datasets table describes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def difference(path: Path, expected: str) -> str:
    """Say how the content of a file differs from its hash in the table; "" if it does not.

    Args:
        path: The file.
        expected: SHA-256, hexadecimal; "md5:..." where the publisher states no other.
    """
    algorithm, _, digest = expected.rpartition(":")
    algorithm = algorithm or "sha256"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    return "" if found == digest else f"has {algorithm} {found}, expected {digest}"
