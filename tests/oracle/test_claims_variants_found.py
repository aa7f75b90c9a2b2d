"""Claims T16 to T25 find their experiments by what these are, not by their names."""

import pytest

import planted_variants as planted
from lossatlas.claims import taxonomy
from lossatlas.claims import verdicts as tables
from lossatlas.claims.conditions import about

CLAIMS = planted.CLAIMS


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """T1 to T15 look at the same tables; they have tests of their own."""
    monkeypatch.setattr(taxonomy, "CLAIMS", ())


PAPER = {
    ("T16", "lr_decay", "constant"),
    ("T17", "noisy_labels", ""),
    ("T18", "amount_of_data", ""),
    ("T19", "label_noise", ""),
    ("T20", "weight_decay", ""),
    ("T21", "pixel_noise", ""),
    ("T23", "lr_scaling", "constant"),
    ("T25", "weight_decay", ""),
    ("T25", "learning_rate", ""),
    ("T25", "cifar100", ""),
}


def test_each_experiment_is_found_by_what_it_is() -> None:
    """Whatever an experiment is called."""
    assert planted.telling("config/taxonomy.yaml") >= PAPER
    others = {"lr_decay", "constant", "small_weight_decay"}
    assert {row[1:] for row in planted.telling("config/taxonomy.yaml") if row[1] in others} == {
        ("lr_decay", "constant")
    }


def test_the_default_atlas_has_no_further_rows() -> None:
    assert planted.telling("config.yaml") == set()


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("T16", {"classes": 100}),
        ("T16", {"label_noise": [0.1]}),
        ("T16", {"axes": {"width": [2], "learning_rate": [0.1]}}),
        ("T16", {"rate": "cosine"}),
        ("T17", {"label_noise": [0.2]}),
        ("T17", {"rate": "decay"}),
        ("T18", {"label_noise": [0.1]}),
        ("T18", {"task": "regression"}),
        ("T19", {"pixel_noise": [0.1]}),
        ("T20", {"optimiser": "adam"}),
        ("T21", {"label_noise": [0.1]}),
        ("T22", {"axes": {"batch_size": [16, 1024]}}),
        ("T23", {"rate": "constant"}),
        ("T24", {"task": "classification"}),
        ("T25", {"axes": {"width": [2], "batch_size": [16]}}),
        ("T25", {"axes": {"depth": [2], "learning_rate": [0.1]}}),
        ("T25", {"axes": {"width": [2], "depth": [1], "learning_rate": [0.1]}}),
    ],
)
def test_what_a_claim_is_not_about_has_no_row(claim: str, change: dict) -> None:
    known = planted.facts(claim)
    altered = known | {"e": known["e"] | change}
    found = tables.claims("taxonomy", planted.experiments(claim, "yes"), altered)
    assert claim not in found["claim"].tolist()


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("T16", {"rate": "decay"}),
        ("T16", {"data": {"source": "cifar100"}}),
        ("T16", {"recipe": {**planted.RECIPE, "momentum": 0.5}}),
        ("T23", {"model": {"builder": "vgg11"}}),
        ("T23", {"recipe": {**planted.RECIPE, "epochs": 9}}),
        ("T24", {"recipe": {**planted.RECIPE, "epochs": 20, "batch_tokens": 9}}),
        ("T24", {"recipe": {}}),
    ],
)
def test_another_experiment_is_no_partner(claim: str, change: dict) -> None:
    known = planted.facts(claim)
    known["other"] = known["other"] | change
    assert tables._partner(CLAIMS[claim], "e", {n: about(o) for n, o in known.items()}) is None


@pytest.mark.parametrize("builder", ["vgg11", "densenet40"])
def test_other_networks_over_width_and_batch_size(builder: str) -> None:
    known = planted.FACTS | {"axes": planted.PLANE, "model": {"builder": builder}}
    assert CLAIMS["T25"].condition.lacks(about(known)) == ""
