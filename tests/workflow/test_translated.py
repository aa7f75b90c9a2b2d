"""Translation on the real graph: an archive and text files, all metrics, BLEU, a phase diagram."""

import hashlib

import pandas as pd
import pytest

import parallel_corpus
from conftest import Project, fresh
from lossatlas import store

TABLE, OWN = "results/ted/tables/translation.csv", "results/ted/tables/own.csv"
CONFIG = """
mirror_dir: archives
datasets:
  iwslt2016_de_en: {task: translation, text: {vocabulary: 160, longest: 40}}
  talks:
    task: translation
    text: {train: [train.de, train.en], test: [test.de, test.en], vocabulary: 160, longest: 40}
models:
  translation_transformer: {depth: 1, heads: 2, expansion: 2}
recipes:
  adam:
    {epochs: 12, batch_size: 20, optimiser: adam, betas: [0.9, 0.98], epsilon: 1.0e-9,
     weight_decay: 0.0, label_smoothing: 0.1, warmup_steps: 20, inverse_sqrt: true}
experiments:
  translation:
    dataset: iwslt2016_de_en
    model: translation_transformer
    recipe: adam
    load: {width: [4, 32]}
    temperature: {learning_rate: [0.003, 0.01]}
    seeds: 2
    together: 2
    metrics: [performance, hessian, connectivity, cka, distance]
  own:
    dataset: talks
    model: translation_transformer
    recipe: adam
    load: {width: [4]}
    seeds: 1
    metrics: [performance]
metrics:
  hessian: {samples: 32, iterations: 8, probes: 6, density_probes: 0}
  connectivity: {epochs: 2, batch_size: 20, optimiser: adam, learning_rate: 0.003, points: 5}
  cka: {samples: 32}
figures:
  taxonomy_phase_diagram: {experiment: translation}
"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("translation")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy whose table knows the archive of the made language, which lies in its mirror."""
    done = fresh(tmp_path_factory.mktemp("translation") / "project")
    every = parallel_corpus.corpus(220)
    parallel_corpus.write_files(done.root, every[:180], every[180:])
    (done.root / "archives").mkdir()
    archive = parallel_corpus.write_archive(
        done.root / "archives/2016-01.tgz", parallel_corpus.members(every[:180], every[180:])
    )
    table = done.root / "resources/datasets.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    (row,) = (row for row in rows if row[0] == "iwslt2016_de_en")
    row[4:6] = [f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}", ""]
    row[7:9] = ["180", "40"]
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    (done.root / "ted.yaml").write_text(CONFIG)
    done.config = "ted.yaml"
    done.snakemake("--cores", "2", TABLE, "taxonomy_phase_diagram", "data")
    return done


def test_every_metric_of_every_cell(finished: Project) -> None:
    """Wide networks translate what they have not seen, and all are far from connected."""
    rows = pd.read_csv(finished.root / TABLE)
    assert set(rows["status"]) <= {"ok", "unconverged"}
    cells = rows.groupby("metric")["cell"].nunique()
    for name in ("test_bleu", "hessian_trace", "mode_connectivity", "cka", "l2_distance"):
        assert cells[name] == 4, name
    bleu = rows[rows["metric"] == "test_bleu"].groupby("width")["value"].mean()
    assert bleu[4] < 5 < 20 < bleu[32]
    assert (rows[rows["metric"] == "mode_connectivity"]["value"] < 0).all()
    drawn = pd.read_csv(finished.root / "results/ted/figures/taxonomy_phase_diagram.csv")
    assert len(drawn) > 0


def test_archive_and_files_give_the_same_examples(finished: Project) -> None:
    both = [
        store.read(next((finished.root / "results").glob(f"**/{stem}_*.h5")), "dataset")
        for stem in ("iwslt2016_de_en", "talks")
    ]
    assert both[0].arrays.keys() == both[1].arrays.keys()
    for name, array in both[0].arrays.items():
        assert (array.values == both[1].arrays[name].values).all(), name


def test_other_texts_are_other_cells(finished: Project) -> None:
    """Nothing is done twice; other pairs are other data."""
    assert finished.jobs(TABLE) == {}
    before = finished.jobs(OWN)
    assert "dataset" not in before
    finished.edit("ted.yaml", "longest: 40}\nmodels", "longest: 40, pairs: 150}\nmodels")
    assert finished.jobs(OWN) == {**before, "dataset": 1}
    (finished.root / "test.en").write_text("one\n")
    printed = finished.snakemake("-n", OWN, ok=False)
    assert "datasets.talks.text.test: 40 sentences of the source, and 1 of the target" in printed
    assert "Traceback" not in printed
