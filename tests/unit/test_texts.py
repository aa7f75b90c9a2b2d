"""Sentence pairs: from files or the archive to a data set; each mistake is one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parallel_corpus
from lossatlas import entries, fingerprint, models, store
from lossatlas.data import convert, download, iwslt, loading, texts
from lossatlas.data.tensors import Named
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.spec import catalogue, config
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.spec.plan import make_plan
from lossatlas.tasks import IGNORED

EVERY = parallel_corpus.corpus(60)
TRAIN, TEST = EVERY[:48], EVERY[48:]
TEXT = {
    "train": ["train.de", "train.en"],
    "test": ["test.de", "test.en"],
    "vocabulary": 90,
    "longest": 60,
}
MODEL: dict[str, Any] = {"builder": "translation_transformer", "width": 8, "depth": 1, "heads": 2}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user starts, with their texts."""
    parallel_corpus.write_files(tmp_path, TRAIN, TEST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: dict[str, Any] | None = None, **changed: Any) -> config.Config:
    data = {"task": "translation", "text": TEXT if text is None else text}
    data |= changed.pop("data", {})
    return config.load(
        {
            "datasets": {"mine": data},
            "models": {"small": {**MODEL, **changed}},
            "recipes": {"short": {"epochs": 1, "batch_size": 8}},
            "experiments": {
                "one": {
                    "dataset": "mine",
                    "model": "small",
                    "recipe": "short",
                    "metrics": ["performance", "hessian"],
                }
            },
        }
    )


def source_of(text: dict[str, Any] | None = None) -> catalogue.DataSource:
    return catalogue.data_source(loaded(text).datasets["mine"].source)


def converted(text: dict[str, Any] | None = None) -> store.Record:
    source = source_of(text)
    return texts.convert(source, [Path(file) for file in source.parts])


# --- what is made -------------------------------------------------------------------------------
def test_texts_become_examples(here: Path) -> None:
    record = converted()
    store.write("data.h5", record)
    part = DataPart(source=str(record.spec["name"]), task="translation")
    data = loading.load("data.h5", part)
    assert (len(data.train), len(data.test), data.classes) == (48, 12, 90)
    assert data.text is not None
    assert data.text.references == [pair[1] for pair in TEST]
    for split, pairs in ((data.train, TRAIN), (data.test, TEST)):
        assert isinstance(split.images, Named)
        source, before = split.images.tensors["source"], split.images.tensors["before"]
        for row, (text, translated) in enumerate(pairs):
            assert data.text.decode(source[row].tolist()) == text
            target = split.labels[row][split.labels[row] != IGNORED].tolist()
            assert target == [*data.text.encode(translated), texts.END]
            assert before[row, : len(target)].tolist() == [texts.BEGIN, *target[:-1]]
            assert not before[row, len(target) :].any()
    arrays = converted().arrays
    assert all(np.array_equal(arrays[key].values, one.values) for key, one in record.arrays.items())


def test_subwords_are_of_the_pairs_that_are_used(here: Path) -> None:
    """Not of the test split, and of the first pairs alone; long ones are left out afterwards."""
    (here / "test.en").write_text("".join("Ω\n" for _ in TEST))
    few = converted({**TEXT, "pairs": 20, "longest": 24, "vocabulary": 70})
    about = few.settings["text"]
    lengths = few.arrays["train_inputs.source"].values.astype(bool).sum(1)
    assert about["left_out"] == 20 - len(lengths) > 0
    assert lengths.max() <= 24
    sides = [side for pair in TRAIN[:20] for side in pair]
    assert few.arrays[texts.SUBWORDS].values.tobytes() == texts.learn(sides, 70)
    known = texts.texts_of(few)
    assert known is not None
    assert texts.UNKNOWN in known.encode("Ω")
    assert known.references[0] == "Ω"


def test_a_name_tells_content_and_settings(here: Path) -> None:
    names = {source_of({**TEXT, **more}).name for more in ({}, {"pairs": 9}, {"longest": 40})}
    (here / "test.en").write_text((here / "test.en").read_text().replace("dog", "hound"))
    names.add(source_of().name)
    assert len(names) == 4
    parallel_corpus.write_files(here, TRAIN, TEST)
    again = source_of()
    assert again.name in names
    (here / "train.de").rename(here / "train.source")  # another name, the same content
    assert source_of({**TEXT, "train": ["train.source", "train.en"]}).name == again.name
    (here / "train.source").rename(here / "train.de")
    assert (again.train, again.test, again.classes) == (48, 12, 90)
    (cell,) = loaded().cells("one")
    assert cell.spec["data"] == {"source": again.name, "task": "translation"}
    (planned,) = make_plan(loaded()).cells.values()
    assert planned.cell.id.startswith("mine-")


def test_pairs_with_an_empty_side_are_left_out(here: Path) -> None:
    (here / "train.en").write_text("\n" + "".join(f"{pair[1]}\n" for pair in TRAIN[1:]))
    assert source_of().train == 47


def test_the_archive_as_it_is_published(tmp_path: Path) -> None:
    """Lines about talks are no sentences; entities of XML are characters."""
    test = [("a & b", 'c "&" d'), *TEST]
    files = parallel_corpus.members(TRAIN, test)
    archive = parallel_corpus.write_archive(tmp_path / "2016-01.tgz", files)
    train, held = iwslt.read(archive)
    assert [(pair.source, pair.target) for pair in train] == TRAIN
    assert [(pair.source, pair.target) for pair in held] == test


# --- what is refused ----------------------------------------------------------------------------
def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8") and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


FILES = {
    "unpaired": (
        write("test.de", "eins\nzwei\n"),
        r"^datasets\.mine\.text\.test: 2 sentences of the source, and 12 of the target \(one",
    ),
    "empty": (
        lambda f: [write(f"test.{end}", "")(f) for end in ("de", "en")],
        r"^datasets\.mine\.text\.test: holds no sentence pair \(give one",
    ),
    "missing": (
        remove("train.en"),
        r"^datasets\.mine\.text: no such file 'train\.en' \(correct the path\)$",
    ),
    "encoding": (
        lambda folder: (folder / "train.de").write_bytes(b"caf\xe9\n"),
        r"^datasets\.mine\.text: 'train\.de' is not UTF-8, at byte 3 \(convert it",
    ),
    "folder": (
        lambda folder: [(folder / "train.de").unlink(), (folder / "train.de").mkdir()],
        r"^datasets\.mine\.text: 'train\.de' is no regular file",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(here: Path, name: str) -> None:
    change, message = FILES[name]
    change(here)
    with pytest.raises(UserError, match=message):
        loaded()


CONFIGS = {
    "pairs": ({"pairs": 99}, r"text\.pairs: pairs is 99, and there are 48 \(at most 48\)"),
    "files": ({"train": ["train.de"]}, r"'train' and 'test' have two files each"),
    "one split": ({"test": []}, r"'train' and 'test' have two files each"),
    "key": ({"vocabluary": 9}, r"unknown key 'vocabluary'.*vocabulary"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_that_are_refused(here: Path, name: str) -> None:
    changed, message = CONFIGS[name]
    with pytest.raises(UserError, match=message):
        loaded({**TEXT, **changed})


def test_what_does_not_fit_together_is_refused(here: Path) -> None:
    no_files = {"vocabulary": 90}
    with pytest.raises(UserError, match=r"'mine' has no sentence pairs .*iwslt2016_de_en"):
        loaded(no_files)
    with pytest.raises(UserError, match=r"width 9 is no multiple of 'heads: 2' .*nearest is 8"):
        loaded(width=9)
    raw = loaded().model_dump()
    raw["models"]["small"] = {"builder": "mlp"}
    raw["datasets"]["mine"] = {"task": "translation", "text": TEXT}
    with pytest.raises(UserError, match=r"'mlp' does not take inputs by name \(translation_tr"):
        config.load(raw)
    raw["datasets"]["mine"] = {"source": "digits", "task": "translation"}
    with pytest.raises(UserError, match="'translation' needs targets that are sequences"):
        config.load(raw)
    tokens = np.ones((9, 4), dtype=np.int64)
    np.savez("tokens.npz", train_inputs=tokens, test_inputs=tokens)
    raw["datasets"]["mine"]["source"] = "tokens.npz"
    with pytest.raises(UserError, match=r"'translation' needs sentence pairs .*sequence_to_seq"):
        config.load(raw)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [(5000, r"text\.vocabulary: 5000 is more subwords than .* \(at most \d+\)"),
     (9, r"text\.vocabulary: 9 is fewer than the characters .* \(at least \d+\)")],
)  # fmt: skip
def test_vocabularies_that_are_refused(here: Path, vocabulary: int, message: str) -> None:
    """The number that the message names is the nearest that will do."""
    with pytest.raises(UserError, match=message) as caught:
        converted({**TEXT, "vocabulary": vocabulary})
    near = int(caught.value.fix.split()[-1])
    assert converted({**TEXT, "vocabulary": near}).settings["classes"] == near
    step = 1 if vocabulary > near else -1
    with pytest.raises(UserError, match=message.split(" ")[0]):
        converted({**TEXT, "vocabulary": near + step})


def test_texts_that_are_too_long(here: Path) -> None:
    with pytest.raises(UserError, match=r"longest: all training pairs have more than 2 tokens \("):
        converted({**TEXT, "longest": 2})
    data = loading.load(converted(), DataPart(task="translation"))
    longest = data.shape["input_shape"]["source"][0]
    arguments = {"width": 8, "depth": 1, "heads": 2}
    build = lambda **more: models.build(  # noqa: E731
        "translation_transformer", {**arguments, **more}, **data.shape
    )
    build(positions=longest)
    what = f"a text of {longest} tokens is longer than the {longest - 1} positions"
    with pytest.raises(UserError, match=f"translation_transformer: .*{what}"):
        build(positions=longest - 1)


def test_tokens_outside_the_vocabulary(here: Path) -> None:
    known = texts.texts_of(converted())
    assert known is not None
    with pytest.raises(UserError, match=r"text: token 90 is in no vocabulary .*from 0 to 89"):
        known.decode([5, 90])
    shape = {"num_classes": 9, "vocabulary": 10}
    inputs = {"source": (4,), "before": (4,)}
    with pytest.raises(UserError, match=r"have a token 9, outside the vocabulary of 9"):
        models.build("translation_transformer", {"heads": 1}, **shape, input_shape=inputs)
    with pytest.raises(UserError, match="inputs are 'source' and 'before', tokens by name"):
        models.build("translation_transformer", {}, **shape, input_shape=(4,))
    part = DataPart(task="translation")
    record = converted()
    del record.arrays[texts.SUBWORDS]
    with pytest.raises(UserError, match="'translation' needs sentence pairs"):
        loading.load(record, part)


ARCHIVES = {
    "other": (lambda files: {"de-en/README": "x"}, r"holds no 'train\.tags\.de-en\.de' \(give 201"),
    "segments": (
        lambda files: {
            **files,
            "de-en/IWSLT16.TED.tst2014.de-en.de.xml": parallel_corpus.segments(TEST[:5], 0),
        },
        "tst2014: its 5 segments are not those of the 12 references",
    ),
    "lines": (
        lambda files: {
            **files,
            "de-en/train.tags.de-en.en": parallel_corpus.tagged(TRAIN[:-1], 1),
        },
        "train: 48 sentences of the source, and 47 of the target",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_are_refused(tmp_path: Path, name: str) -> None:
    change, message = ARCHIVES[name]
    files = change(parallel_corpus.members(TRAIN, TEST))
    with pytest.raises(UserError, match=message):
        iwslt.read(parallel_corpus.write_archive(tmp_path / "a.tgz", files))


def test_an_archive_that_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash is looked at before anything in it; a cut one, or a link in it, leads nowhere."""
    archive = tmp_path / "2016-01.tgz"
    parallel_corpus.write_archive(archive, parallel_corpus.members(TRAIN, TEST))
    source = replace(catalogue.data_sources()["iwslt2016_de_en"], text=json.dumps({"pairs": None}))
    monkeypatch.setattr(iwslt, "read", None)
    with pytest.raises(UserError, match=r"2016-01\.tgz: has md5 \w{32}, expected c393ed3f"):
        texts.convert(source, [archive])
    monkeypatch.undo()
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cannot be unpacked: .* \(delete it and fetch it again"):
        iwslt.read(archive)


def test_an_archive_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which file to put where; a file of another content is refused there."""
    row = replace(catalogue.data_sources()["iwslt2016_de_en"], mirrors=())
    fix = r"into a folder under the name '2016-01\.tgz', and name that folder as 'mirror_dir'"
    with pytest.raises(download.MissingError, match=rf"iwslt2016_de_en: .*{fix}"):
        download.fetch(row, tmp_path / "got.tgz")
    (tmp_path / "2016-01.tgz").write_bytes(b"other")
    with pytest.raises(download.MissingError, match=r"has md5 .*, expected c393"):
        download.fetch(row, tmp_path / "got.tgz", str(tmp_path))
    right = hashlib.md5(b"other").hexdigest()
    download.fetch(replace(row, sha256=f"md5:{right}"), tmp_path / "got.tgz", str(tmp_path))
    assert (tmp_path / "got.tgz").read_bytes() == b"other"
    with pytest.raises(UserError, match=r"unknown data set 'iwslt2016_de_em' .*iwslt2016_de_en"):
        catalogue.data_source("iwslt2016_de_em")


def test_other_data_sets_are_as_they_were() -> None:
    """Neither a row's identity nor a cell's specification has the new keys."""
    row = catalogue.identity(catalogue.data_source("digits"))
    assert "text" not in row
    assert convert.convert("digits").settings.keys() == {"scale", "mean", "std", "classes"}
    assert DataPart(source="digits").model_dump(exclude_defaults=True) == {"source": "digits"}


def test_what_changes_with_the_code_of_translation() -> None:
    """BLEU is of `performance` alone, and no text is of networks for images."""
    performance, hessian = (registry.built_in()[kind] for kind in ("performance", "hessian"))
    cells = [
        Cell(DataPart(task="translation"), ModelPart(builder="translation_transformer"), Recipe()),
        Cell(DataPart(source="digits"), ModelPart(builder="mlp"), Recipe()),
    ]
    bleu, text = "lossatlas.tasks.translation:greedy", "lossatlas.data.texts:Texts"
    for cell, needs in zip(cells, (True, False), strict=True):
        asked = [entries.training(cell), *(entries.metric(k, cell) for k in (hessian, performance))]
        found = [fingerprint.parts(one) for one in asked]
        assert [text in one for one in found] == [needs] * 3
        assert [bleu in one for one in found] == [False, False, needs]
