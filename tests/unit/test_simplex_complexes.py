"""Complexes: the standard shapes, incidence lists, and what is refused."""

import pytest

from lossatlas.errors import UserError
from lossatlas.simplex.complexes import check_dimension, chosen, grown, listed, shared

# The shape of the paper's 7 modes, 9 connectors and 12 simplexes: each connector serves neighbours.
SHARED_BY = ["01", "1", "2", "23", "3", "45", "56", "6"]
PAPER = [
    [f"w{mode}", f"c{connector}", f"c{connector + 1}"]
    for connector, modes in enumerate(SHARED_BY)
    for mode in modes
]


def test_standard_shapes() -> None:
    assert grown(4, 3).simplexes == ((0, 1, 2, 3),)
    assert grown(4, 2).names == ["w4", "c0", "c1"]
    pair = shared([0, 5], 3)
    assert pair.simplexes == ((0, 2, 3, 4), (1, 2, 3, 4))
    assert pair.until(1) == [(0, 2), (1, 2)]
    assert pair.around(1) == [(0, 2, 3), (1, 2, 3)]
    assert pair.until(0) == [(0,), (1,)]
    assert (0, 1) not in pair.edges()


def test_incidence_list() -> None:
    found = listed(PAPER, range(7))
    assert (len(found.modes), found.connectors, len(found.simplexes)) == (7, 9, 12)
    assert found.simplexes[0] == (0, 7, 8)
    same = listed([["w0", "c0", "c1"], ["c1", "w5", "c0"]], [0, 5])
    assert same == shared([0, 5], 2)


def test_faces_of_others_are_left_out() -> None:
    made = listed([["w0", "c0", "c1"], ["w1", "c1", "c2"], ["c0", "c1", "c2"]], [0, 1])
    assert made.around(0) == [(0, 2)]  # of the simplex of connectors just c0 is there
    assert made.around(1) == [(0, 2, 3), (1, 3)]
    assert made.until(3) == list(made.simplexes)
    assert listed([["w0", "c0"], ["w0", "c0", "c1"]], [0]).until(1) == [(0, 1)]


def test_settings_choose() -> None:
    assert chosen("shared", 2, 3, [1, 4, 6]) == shared([1, 4], 3)
    assert chosen("single", 9, 3, [1, 4, 6]) == grown(1, 3)
    assert chosen([["w4", "c0"]], 9, 3, [1, 4]) == grown(4, 1)


BAD = [
    ([["w9", "c0"]], "unknown mode 'w9' (replicas: w0, w1)"),
    ([["w0", "c0", "w0"]], "repeats a vertex"),
    ([["w0", "c1"]], "numbered with gaps"),
    ([["w0", "x1"]], "'x1' names no vertex"),
    ([["c0", "c1"]], "no simplex has a mode"),
    ([["w0", "c0"], ["c0", "w0"]], "listed twice"),
    ([["w0", "c0"], []], "an empty simplex"),
    ([["w0"], ["c0", "c1"], ["w0", "c1"]], "'c0' shares no simplex with an earlier vertex"),
]


@pytest.mark.parametrize(("simplexes", "says"), BAD)
def test_bad_lists_are_one_line(simplexes: list, says: str) -> None:
    with pytest.raises(UserError) as caught:
        listed(simplexes, [0, 1], "metrics.simplex.complex")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_few_modes() -> None:
    with pytest.raises(UserError, match="3 modes are asked for, and 2 replicas ended well"):
        chosen("shared", 3, 1, [0, 1])
    with pytest.raises(UserError, match="did you mean 'shared'"):
        chosen("share", 3, 1, [0, 1])


def test_dimension_above_the_number_of_parameters() -> None:
    check_dimension(grown(0, 4), 4)
    with pytest.raises(UserError, match="5 dimensions in a space of 4 parameters"):
        check_dimension(grown(0, 5), 4)
