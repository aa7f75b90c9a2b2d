"""Reads pickles of plain containers and numpy numbers; nothing in them can run code.

A pickle may name any function of Python and have it called. This reader admits two names, those
by which numpy writes one number, and rebuilds the number itself, so that not even numpy's own
unpickling code sees the file.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from typing import Any, NoReturn

import numpy as np

from lossatlas.errors import UserError

_NUMBER = re.compile(r"[<>|=]?[biufc][0-9]{1,2}")
_UNREADABLE = (  # what the standard library says of a damaged pickle
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class _Dtype:
    """Stands in for numpy.dtype: a type of number and its byte order, nothing else."""

    def __init__(self, text: str, *_: object) -> None:
        if not isinstance(text, str) or not _NUMBER.fullmatch(text):
            raise pickle.UnpicklingError(f"not a type of number: {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Scalar:
    """Stands in for numpy's `scalar`. A class, so that a pickle cannot set its attributes."""

    def __new__(cls, dtype: _Dtype, data: bytes) -> Any:
        if len(data) != dtype.dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes for a {dtype.dtype}")
        return np.frombuffer(data, dtype.dtype)[0]

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a number has no state")


_ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _Scalar,  # numpy 1
    ("numpy._core.multiarray", "scalar"): _Scalar,  # numpy 2
}


class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    """The reader written in Python: the one in C lets a few bytes ask for gigabytes."""

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data))
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            what = f"refused: it asks for '{module}.{name}'"
            fix = "only plain containers and numbers are read; get the file from its authors"
            raise UserError(what, where=self.where, fix=fix) from None

    def get_extension(self, code: int) -> NoReturn:
        """Refuse names in short (PEP 307): copyreg may have them resolved already."""
        raise UserError(f"refused: it asks for extension {code}", where=self.where)


def loads(data: bytes, where: str = "pickle") -> Any:
    """Return the dicts, lists, tuples, texts and numbers in a pickle.

    Args:
        data: The pickle, of any protocol.
        where: What to call it in a message.

    Raises:
        UserError: If it names anything but a numpy number (which is then neither imported nor
            called), or is damaged.
    """
    try:
        return _Unpickler(data, where).load()
    except _UNREADABLE as error:
        what = f"not a readable pickle ({error})"
        raise UserError(what, where=where, fix="download it again") from None
