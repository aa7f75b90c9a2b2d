"""What the bytes of a file are that should hold weights, before anything reads them."""

from __future__ import annotations

import io
import zipfile


def no_weights(content: bytes) -> tuple[str, str] | None:
    """Return what a file is in place of weights, and the fix; None if it may hold some."""
    again = "fetch it again"
    if content.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, and not the file itself", "git lfs pull"
    if content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page", f"{again}: a server told its error in place of the file"
    if not content:
        return "is empty", again
    if content.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                announced = sum(one.file_size for one in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError):
            return "is cut off or damaged", again
        if announced > len(content):  # torch.save does not compress
            what = f"holds {announced:,} bytes in {len(content):,}, as torch.save never writes them"
            return what, "save it with torch.save(model.state_dict(), file)"
    return None


def is_safetensors(content: bytes) -> bool:
    """Say whether a file begins as one of safetensors, whatever its name."""
    size = int.from_bytes(content[:8], "little")
    return content[8:9] == b"{" and 2 <= size <= len(content) - 8
