"""What results say of what made them."""

import json
from pathlib import Path

import numpy as np
import pytest

from lossatlas import made, paths, reruns, seal, store
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.tables import collect

PARAMS = {"settings": '{"b": 1, "a": [1, 2]}', "seeds": [0, 1], "code": "c0de", "text": "x" * 99}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A job with one input is running in an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("input.csv").write_text("1\n")
    made.begin(PARAMS.items(), "c0de", ["input.csv"])
    yield
    made.end()


def ask(outputs: list[str], **changes: object) -> list[made.Difference]:
    params = {**PARAMS, **changes}
    return made.differences(outputs, params.items(), str(params["code"]), ["input.csv"])


def test_words_are_values_in_one_spelling() -> None:
    words = made.words_of(PARAMS.items())
    assert words["settings"] == '{"a":[1,2],"b":1}'
    assert words["seeds"] == "[0,1]"
    assert words["text"].startswith("#")
    assert len(words["text"]) == 17
    assert "code" not in words


def test_a_record_says_it_in_its_header(job: None) -> None:
    store.write("one.h5", store.Record("kind", [store.Scalar("value", 1.0)]))
    assert seal.whole("one.h5")
    assert store.read("one.h5").scalar("value").value == 1.0
    assert ask(["one.h5"]) == []
    assert ask(["one.h5"], code="0ther") == [made.Difference("code", "", "c0de", "0ther")]
    assert ask(["one.h5"], seeds=[0, 1, 2]) == [
        made.Difference("param", "seeds", "[0,1]", "[0,1,2]")
    ]
    assert ask(["one.h5"], more=None) == [made.Difference("param", "more", "", "null")]
    Path("input.csv").write_text("2\n")
    assert [one.kind for one in ask(["one.h5"])] == ["input"]
    Path("input.csv").unlink()
    assert ask(["one.h5"]) == [], "an input that is not there would be made from the same config"


def test_records_of_one_content_are_one_input(job: None) -> None:
    record = store.Record("dataset", arrays={"x": store.Array(np.arange(9.0), ("i",))})
    store.write("one.h5", record)
    made.begin(PARAMS.items(), "newer", ["input.csv"])
    store.write("two.h5", record)
    assert made.checksum("one.h5") == made.checksum("two.h5")
    assert seal.stamp("one.h5") != seal.stamp("two.h5")
    store.write("two.h5", store.Record("dataset"))
    assert made.checksum("one.h5") != made.checksum("two.h5")


def test_a_header_as_long_as_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{number:0100d}" for number in range(200)]
    for name in names:
        Path(name).write_text(name)
    made.begin({}.items(), "c0de", names)
    record = store.Record("kind", arrays={"x": store.Array(np.arange(9.0), ("i",))})
    store.write("one.h5", record)
    made.end()
    assert store.read("one.h5").arrays["x"].values.tolist() == list(range(9))
    assert made.differences(["one.h5"], {}.items(), "c0de", names) == []


def test_other_results_say_it_in_a_file_beside_them(job: None) -> None:
    outputs = ["figure.png", "figure.csv"]
    for output in outputs:
        Path(output).write_text("drawn\n")
    made.write_sidecars(outputs)
    assert ask(outputs) == []
    Path("figure.png").write_text("drawm\n")
    assert ask(outputs) == [made.Difference("unknown")]
    Path("figure.png").write_text("drawn\n")
    Path(paths.sidecar("figure.csv")).unlink()
    assert ask(outputs) == [made.Difference("unknown")]


def test_weights_are_told_by_their_training_record(job: None) -> None:
    Path("0.safetensors").write_bytes(b"weights")
    store.write("0.h5", store.Record("training"), ["0.safetensors"])
    assert ask(["0.safetensors", "0.h5"]) == []
    Path("0.safetensors").write_bytes(b"others!")
    assert ask(["0.safetensors", "0.h5"]) == [made.Difference("unknown")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"words": 1}', '{"words": {}, "code": 1}']
)
def test_what_is_no_such_text(text: str) -> None:
    assert made.parse(text) is None


def test_a_record_that_no_job_wrote(tmp_path: Path) -> None:
    path = str(tmp_path / "one.h5")
    store.write(path, store.Record("kind"))
    assert made.differences([path], {}.items(), "", []) == [made.Difference("unknown")]


def test_a_missing_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.h5: cannot be read: No such file"):
        made.begin({}.items(), "", [str(tmp_path / "missing.h5")])


@pytest.mark.parametrize("cut", [-1, -9, 40], ids=["newline", "within a line", "most of it"])
def test_a_table_that_was_cut_is_refused(job: None, cut: int) -> None:
    found = {"cell": [store.Scalar("loss", 0.25, 0), store.Scalar("loss", 0.5, 1)]}
    collect.write("table.csv", collect.scalar_frame("one", {"cell": {"width": 1}}, found))
    assert len(collect.read("table.csv")) == 2, "without a sidecar it is read as it is"
    made.write_sidecars(["table.csv"])
    assert len(collect.read("table.csv")) == 2
    Path("table.csv").write_bytes(Path("table.csv").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"table\.csv: cut off or edited: its checksum is wrong"):
        collect.read("table.csv")


def test_a_reason_names_settings_that_decide_numbers_alone(tmp_path: Path) -> None:
    """A record also notes those that cost memory or time; what is asked for leaves them out."""
    metric = registry.built_in()["hessian"]()
    path = str(tmp_path / "hessian.h5")
    store.write(path, store.Record("hessian", settings=metric.model_dump()))
    now = {**metric.identity, "samples": 7}
    params = {"kind": "hessian", "settings": json.dumps(now)}
    assert set(metric.costs_only) & metric.model_dump().keys()
    told = reruns._settings([path], params)
    assert told == [f"setting samples {json.dumps(metric.samples)} -> 7"]
