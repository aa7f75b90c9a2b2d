"""What the reader of pickles admits, and that nothing else is imported or called."""

import copyreg
import os
import pickle

import numpy as np
import pytest

from lossatlas import unpickle
from lossatlas.errors import UserError

PLAIN = {0: {"a": [1, 2.5, "x", None, True]}, "t": (1, (2,)), "n": float("inf"), "b": b"\0"}


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_and_numbers_of_numpy_come_back(protocol):
    numbers = [np.float32(0.1), np.float64(-2.5), np.int64(3), np.dtype(">f8").type(7), np.bool_(1)]
    back = unpickle.loads(pickle.dumps([PLAIN, numbers], protocol=protocol))
    assert back[0] == PLAIN
    assert [(type(a), a) for a in back[1]] == [(type(a), a) for a in numbers]


def test_byte_order_is_kept():
    data = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf8\nI0\nI1\ntR"
    data += b"(I3\nV>\nNNNI-1\nI-1\nI0\ntb"
    text = np.array(1.5, dtype=">f8").tobytes()
    data += b"C" + bytes([len(text)]) + text + b"tR."
    assert unpickle.loads(data) == pickle.loads(data) == 1.5


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(tmp_path):
    """Pickles that leave a file named `mark` when they run."""
    mark = tmp_path / "mark"
    touch = f"open({str(mark)!r}, 'w').close()"
    stored = tmp_path / "inner.npy"
    inner = np.empty(1, dtype=object)
    inner[0] = Calls(eval, touch)
    np.save(stored, inner, allow_pickle=True)
    mark.unlink(missing_ok=True)
    quoted = str(mark).encode()
    return mark, {
        "system": pickle.dumps(Calls(os.system, f"touch {mark}")),
        "system, protocol 0": pickle.dumps(Calls(os.system, f"touch {mark}"), protocol=0),
        "eval": pickle.dumps({"x": [Calls(eval, touch)]}),
        "exec by INST": b"(S'" + touch.replace("'", '"').encode() + b"'\nibuiltins\nexec\n.",
        "numpy.load": pickle.dumps(Calls(np.load, str(stored), None, True)),
        "numpy.fromfile": pickle.dumps(Calls(np.fromfile, str(stored))),
        "numpy.memmap": pickle.dumps(Calls(np.memmap, str(mark), "u1", "w+", 0, (1,))),
        "through numpy": b"cnumpy\nos.system\n(V touch " + quoted + b"\ntR.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x07os.open\x93.",
        "getattr": pickle.dumps(Calls(getattr, "text", "upper")),
        "array": pickle.dumps(np.zeros(3)),
        "objects": pickle.dumps(np.array([Calls(eval, touch)], dtype=object)),
    }


def test_the_hostile_pickles_are_hostile(tmp_path):
    mark, pickles = hostile(tmp_path)
    for name in ("system", "eval", "exec by INST", "numpy.load", "numpy.memmap"):
        pickle.loads(pickles[name])
        assert mark.exists(), name
        mark.unlink()


def test_hostile_pickles_are_refused_by_name_and_do_not_run(tmp_path):
    mark, pickles = hostile(tmp_path)
    for name, data in pickles.items():
        with pytest.raises(UserError, match="refused: it asks for '") as error:
            unpickle.loads(data, "some.pkl")
        assert error.value.where == "some.pkl"
        assert not mark.exists(), name


def test_the_refused_name_is_in_the_message():
    with pytest.raises(UserError, match=r"some\.pkl: refused: it asks for 'posix\.system'"):
        unpickle.loads(b"cposix\nsystem\n(Vtrue\ntR.", "some.pkl")


def test_extensions_and_persistent_ids_are_refused():
    copyreg.add_extension("builtins", "eval", 200)
    try:
        data = pickle.dumps(eval, protocol=2)
        assert b"eval" not in data
        assert pickle.loads(data) is eval  # and now the registry holds it, resolved
        with pytest.raises(UserError, match="refused: it asks for extension 200"):
            unpickle.loads(data)
    finally:
        copyreg.remove_extension("builtins", "eval", 200)
    with pytest.raises(UserError):
        unpickle.loads(b"Pwhatever\n.")


def dtype_pickle(text: bytes, state: bytes = b"") -> bytes:
    return b"cnumpy\ndtype\n(V" + text + b"\nI0\nI1\ntR" + state + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        pickle.dumps(PLAIN)[:-5],
        dtype_pickle(b"O"),
        dtype_pickle(b"V8"),
        dtype_pickle(b"f8,O"),
        dtype_pickle(b"f8", b"(I3\nVO\ntb"),
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf8\ntRVabc\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vu1\nI0\nI1\ntRC\x02abtR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf8\nI0\nI1\ntRC\x02abtR.",
        b"cnumpy.core.multiarray\nscalar\n}Vx\nI1\nsb.",
        b"\x80\x03}r\xff\xff\xff\x7f.\x80",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
    ],
)
def test_damaged_pickles_get_one_line(data):
    if data.startswith(b"\x80\x03}r"):
        assert unpickle.loads(data) == {}  # a memo of 2 thousand million places costs nothing
        return
    with pytest.raises(UserError, match="not a readable pickle"):
        unpickle.loads(data)


def test_a_pickle_cannot_change_the_reader():
    """BUILD on an admitted name must not set its attributes."""
    before = dict(vars(unpickle._Scalar)), dict(vars(unpickle._Dtype))
    for name in (b"numpy.core.multiarray\nscalar", b"numpy\ndtype"):
        data = b"c" + name + b"\n(N}V__defaults__\nI1\nstb."
        with pytest.raises(UserError):
            unpickle.loads(data)
    assert (dict(vars(unpickle._Scalar)), dict(vars(unpickle._Dtype))) == before


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_where_they_are_asked_for(protocol):
    arrays = [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
    ]
    back = unpickle.loads(pickle.dumps({"x": arrays, "y": [1]}, protocol=protocol), arrays=True)
    assert back["y"] == [1]
    for stored, array in zip(back["x"], arrays, strict=True):
        assert stored.values.dtype == array.dtype
        assert np.array_equal(stored.values, array)


def test_hostile_pickles_are_refused_with_arrays_too(tmp_path):
    mark, pickles = hostile(tmp_path)
    del pickles["array"]
    for name, data in pickles.items():
        with pytest.raises(UserError):
            unpickle.loads(data, "some.pkl", arrays=True)
        assert not mark.exists(), name


def array_pickle(shape=b"K\x02\x85", data=b"U\x02ab", by_columns=b"\x89"):
    """An array as Python 2 writes it."""
    kind = (
        b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    return b"\x80\x02" + made + b"(K\x01" + shape + kind + by_columns + data + b"tb."


def test_damaged_arrays_get_one_line():
    assert unpickle.loads(array_pickle(), arrays=True).values.tolist() == [97, 98]
    bad = [
        array_pickle(shape=b"K\x03\x85"),
        array_pickle(shape=b"U\x02ab"),
        array_pickle(data=b"](K\x01e"),
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01xK\x01sb.",
        b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0utf8\x86R.",
        b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(U\x02abK\x01K\x02U\x01CtR.",
    ]
    for data in bad:
        with pytest.raises(UserError, match=r"not a readable pickle .*another row"):
            unpickle.loads(data, arrays=True, fix="another row")


def test_a_pickle_cannot_change_the_reader_of_arrays():
    classes = set(unpickle._ARRAYS.values())
    before = {one: dict(vars(one)) for one in classes}
    for module, name in unpickle._ARRAYS:
        data = f"c{module}\n{name}\n".encode() + b"(N}V__defaults__\nI1\nstb."
        with pytest.raises(UserError):
            unpickle.loads(data, arrays=True)
    assert {one: dict(vars(one)) for one in classes} == before
