"""What pytest needs to collect all folders in one run."""

from collections import Counter

from lossatlas.paths import PROJECT


def test_no_two_test_modules_share_a_name() -> None:
    """Test folders are no packages, so the second module of a name cannot be collected."""
    names = Counter(path.name for path in (PROJECT / "tests").rglob("*.py"))
    assert [name for name, n in names.items() if n > 1 and name != "conftest.py"] == []
