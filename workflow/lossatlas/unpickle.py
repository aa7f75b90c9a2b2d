"""Reads pickles of plain containers, numpy numbers and arrays; nothing in them can run code.

A pickle may name any function of Python and have it called. This reader admits the names by which
numpy writes a number and, where they are asked for, arrays of numbers, and rebuilds them itself, so
that not even numpy's own unpickling code sees the file.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Mapping
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


class Stored:
    """Stands in for numpy.ndarray: `values` is the array of numbers that the pickle holds."""

    values: np.ndarray = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        self.values = _array(data, dtype, shape, "F" if by_columns else "C")


class _Reconstruct:
    """Stands in for numpy's `_reconstruct`, which makes an empty array for a state to follow."""

    def __new__(cls, *_: object) -> Any:
        return Stored()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a function has no state")


class _FromBuffer(_Reconstruct):
    """Stands in for numpy's `_frombuffer`, by which protocol 5 writes an array."""

    def __new__(cls, data: bytes, dtype: object, shape: Any, order: str, *_: object) -> Any:
        made = Stored()
        made.values = _array(data, dtype, shape, order)
        return made


class _Encode(_Reconstruct):
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        return text.encode(encoding)


def _array(data: object, dtype: object, shape: Any, order: Any) -> np.ndarray:
    """Return an array of numbers; Python 2 has written its bytes as a text."""
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("not an array of numbers")
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array in the order {order!r}")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


_NUMBERS: dict[tuple[str, str], type] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _Scalar,  # numpy 1
    ("numpy._core.multiarray", "scalar"): _Scalar,  # numpy 2
}
_ARRAYS = {
    **_NUMBERS,
    ("numpy", "ndarray"): Stored,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    """The reader written in Python: the one in C lets a few bytes ask for gigabytes."""

    def __init__(self, data: bytes, where: str, admitted: Mapping[tuple[str, str], type]) -> None:
        # Python 2 has no other text than bytes, and arrays among them
        super().__init__(io.BytesIO(data), encoding="latin1" if admitted is _ARRAYS else "ASCII")
        self.where, self.admitted = where, admitted

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.admitted[module, name]
        except KeyError:
            what = f"refused: it asks for '{module}.{name}'"
            fix = "only plain containers and numbers are read; get the file from its authors"
            raise UserError(what, where=self.where, fix=fix) from None

    def get_extension(self, code: int) -> NoReturn:
        """Refuse names in short (PEP 307): copyreg may have them resolved already."""
        raise UserError(f"refused: it asks for extension {code}", where=self.where)


def loads(
    data: bytes, where: str = "pickle", *, arrays: bool = False, fix: str = "download it again"
) -> Any:
    """Return the dicts, lists, tuples, texts and numbers in a pickle.

    Args:
        data: The pickle, of any protocol.
        where: What to call it in a message.
        arrays: Admit numpy arrays of numbers, also in pickles of Python 2; each becomes a `Stored`.
        fix: What to do about a damaged one.

    Raises:
        UserError: If it names anything but numpy's numbers and arrays (which is then neither
            imported nor called), or is damaged.
    """
    try:
        return _Unpickler(data, where, _ARRAYS if arrays else _NUMBERS).load()
    except _UNREADABLE as error:
        what = f"not a readable pickle ({error})"
        raise UserError(what, where=where, fix=fix) from None
