"""Simplexes through Snakemake: vertices that stay, corrupted images from a server."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import Project
from corrupted import served, write
from lossatlas.data.convert import convert
from lossatlas.differences import differences

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("simplexes")]

CONFIG = {
    "datasets": {"digits": {"fraction": 0.5}},
    "models": {"tiny": {"builder": "mlp", "width": 4}},
    "recipes": {"short": {"epochs": 3}},
    "experiments": {
        "one": {
            "dataset": "digits",
            "model": "tiny",
            "recipe": "short",
            "seeds": 2,
            "together": 2,
            "metrics": ["espro"],
        }
    },
    "metrics": {"espro": {"epochs": 1, "draws": 2, "cycles": 0, "corruptions": "digits_c"}},
    "figures": {"simplex_corruption": {"experiment": "one"}},
}


def archive(path: Path) -> dict[str, np.ndarray]:
    """Write corrupted copies of the digits' test images in the published format."""
    data = {name: array.values for name, array in convert("digits").arrays.items()}
    images, labels = data["test_images"], data["test_labels"]
    darker = [images // (severity + 1) for severity in range(1, 6)]
    brighter = [np.minimum(images + 2 * severity, 16) for severity in range(1, 6)]
    content = {"contrast": np.concatenate(darker), "brightness": np.concatenate(brighter)}
    content["labels"] = np.tile(labels, 5).astype(np.uint8)
    write(path, content)
    return content


def test_corrupted_images_from_a_server(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path / "digits_c.tar")
    body = (tmp_path / "digits_c.tar").read_bytes()

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    project.configure(lambda c: (c.clear(), c.update(CONFIG)))
    table = project.root / "resources/datasets.tsv"
    with served(tmp_path) as address:
        about = [len(body), hashlib.sha256(body).hexdigest(), f"{address}/digits_c.tar"]
        row = ["digits_c", 1, "digits_c.tar", *about, "none", "", 3600, 10, 1, 8]
        table.write_text(table.read_text() + "\t".join(map(str, row)) + "\n")
        project.snakemake("--cores", "1", "simplex_corruption")
    numbers = pd.read_csv(project.root / "results/smoke/figures/simplex_corruption.csv")
    assert set(numbers["corruption"]) == {"gaussian noise", "brightness", "contrast"}
    one = numbers[(numbers["corruption"] == "contrast") & (numbers["method"] == "deep ensemble")]
    assert one["severity"].tolist() == [0, 1, 2, 3, 4, 5]
    assert one["nll_scaled"].iloc[-1] > one["nll_scaled"].iloc[0]
    assert "Nothing to be done" in project.snakemake("-n", "simplex_corruption")


def test_adding_a_connector_trains_only_that_connector(project: Project) -> None:
    def connect(count: int):
        fast = {"epochs": 2, "points": 3, "places": 3, "raster": 3, "connectors": count}
        return lambda c: c["metrics"].update(simplex=fast)

    project.configure(lambda c: (c.clear(), c.update(CONFIG)))
    project.configure(lambda c: c["experiments"]["one"].update(metrics=["simplex"]))
    project.configure(lambda c: c["figures"].clear())
    project.configure(connect(2))
    target = "results/smoke/tables/one/simplex.csv"
    project.snakemake("--cores", "1", target)
    (folder,) = project.root.glob("results/cells/*/vertices")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert len(before) == 2
    project.configure(connect(3))
    assert project.jobs(target) == {"simplexes": 1, "collect": 1}
    project.snakemake("--cores", "1", target)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert len(after) == 3
    assert before.items() <= after.items()  # the same bytes, never written again
    (record,) = project.root.glob("results/cells/*/metrics/simplex.h5")
    extended = record.with_suffix(".extended")
    record.rename(extended)
    shutil.rmtree(folder)
    shutil.rmtree(folder.with_name("parts"))
    project.snakemake("--cores", "1", str(record.relative_to(project.root)))
    assert differences(record, extended) == []  # as if trained in one go
