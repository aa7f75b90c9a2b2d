import pytest

from lossatlas.diffusion.windows import paper_windows, windows


def test_full_windows_only():
    assert windows(25, 10) == [(0, 10), (10, 20)]
    assert windows(25, 10, 5) == [(0, 10), (5, 15), (10, 20), (15, 25)]
    assert windows(10, 10) == [(0, 10)]


def test_paper_windows_lose_an_epoch_after_the_first():
    found = paper_windows(500, 49)
    assert found[0] == (0, 1029)
    assert found[4][0] + 1 == 3970
    assert found[23][0] + 1 == 22590
    assert all(end - first == 980 for first, end in found[1:])


def test_paper_windows_that_lose_every_second_group():
    found = paper_windows(1000, 49, losing=True)
    assert found[4][0] + 1 == 8037
    assert found[23][0] + 1 == 46208
    assert all(end - first == 1029 for first, end in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 10, 0), "stride"),
        ((100, 101), "longer than the run"),
        ((100, 1), "at least 2 points"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        windows(*arguments)


def test_paper_run_too_short():
    with pytest.raises(ValueError, match="longer than the run of 20 epochs"):
        paper_windows(20, 49)
    with pytest.raises(ValueError, match="at least 1"):
        paper_windows(20, 0)
