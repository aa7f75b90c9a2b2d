"""Built-in networks are found by their files, which are read without torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from added_network import NEW
from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec import networks
from lossatlas.spec.catalogue import NETWORKS


def test_a_network_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(paths.LIBRARY / "models", tmp_path / "models")
    (tmp_path / "models/added.py").write_text(NEW)
    found = networks.built_in(tmp_path / "models")
    assert found.keys() - NETWORKS.keys() == {"added"}
    one = found["added"]
    assert one.target == "lossatlas.models.added:Added"
    assert one.cost(one.arguments, 10, 1, 8) == (650, 640)
    assert one.choices == {"kind": ("flat", "wide")}
    (tmp_path / "models/again.py").write_text(NEW)
    with pytest.raises(UserError, match=r"again.py: declares a network 'added', and so does"):
        networks.built_in(tmp_path / "models")


def test_declarations_are_read_without_torch() -> None:
    code = (
        "import sys; from lossatlas.spec.catalogue import NETWORKS; assert len(NETWORKS) > 10;"
        "assert not {'torch', 'lossatlas.models'} & sys.modules.keys()"
    )
    environment = {"PYTHONPATH": str(paths.LIBRARY.parent)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
