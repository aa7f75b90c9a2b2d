"""Archives of corrupted images in the format of CIFAR-10-C, and a server that has them."""

import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np


def write(path: Path, content: dict[str, np.ndarray]) -> Path:
    """Write a tar as published: one folder with .npy files and a README."""
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("CIFAR-10-C/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        files = {f"{name}.npy": array for name, array in content.items()}
        for name, array in {**files, "README.txt": None}.items():
            file = io.BytesIO(b"about")
            if array is not None:
                file = io.BytesIO()
                np.save(file, array)
            member = tarfile.TarInfo(f"CIFAR-10-C/{name}")
            member.size = len(file.getvalue())
            file.seek(0)
            tar.addfile(member, file)
    return path


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and prints nothing."""

    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
