"""Whether a file is the one that the datasets table describes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def difference(path: Path, *expected: str) -> str:
    """Say how the content of a file differs from its hashes in the table; "" if one is its own.

    Args:
        path: The file.
        expected: SHA-256, hexadecimal; "md5:..." where the publisher states no other.
    """
    found = ""
    for one in expected:
        algorithm, _, digest = one.rpartition(":")
        algorithm = algorithm or "sha256"
        with path.open("rb") as file:
            content = hashlib.file_digest(file, algorithm).hexdigest()
        if content == digest:
            return ""
        found = found or f"has {algorithm} {content}"
    return f"{found}, expected {' or '.join(one.rpartition(':')[2] for one in expected)}"
