"""Translation: it learns a made language; padding, attention and BLEU against other code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import parallel_corpus
from lossatlas import measuring, models, store
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data import texts
from lossatlas.data.tensors import Named, Split
from lossatlas.models.functional import Functional, flatten, stack, state_of
from lossatlas.models.translation_transformer import (
    Attention,
    TranslationTransformer,
    sinusoids,
)
from lossatlas.reading import Inputs
from lossatlas.spec import catalogue, config
from lossatlas.spec.parts import Recipe
from lossatlas.tasks import IGNORED, find
from lossatlas.tasks.translation import corpus_bleu, greedy
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.job import train_block

TOKENS, SHAPE = 11, {"source": (7,), "before": (6,)}
torch.set_num_threads(1)


# --- from the archive to BLEU -------------------------------------------------------------------
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[config.Config, Path]:
    """A config of the archive's row, and an archive of the made language in its place."""
    monkeypatch.chdir(tmp_path)
    every = parallel_corpus.corpus(900)
    files = parallel_corpus.members(every[:800], every[800:])
    archive = parallel_corpus.write_archive(tmp_path / "2016-01.tgz", files)
    rows = catalogue.data_sources()
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    row = replace(rows["iwslt2016_de_en"], sha256=f"md5:{md5}", train=800, test=100)
    monkeypatch.setitem(rows, "iwslt2016_de_en", row)
    recipe = {"optimiser": "adam", "betas": [0.9, 0.98], "epsilon": 1e-9, "weight_decay": 0.0}
    recipe |= {"label_smoothing": 0.1, "inverse_sqrt": True, "warmup_steps": 50}
    recipe |= {"epochs": 12, "batch_tokens": 400, "learning_rate": 3e-3}
    text = {"vocabulary": 200, "longest": 40}
    raw = {
        "datasets": {"iwslt2016_de_en": {"task": "translation", "text": text}},
        "models": {"translation_transformer": {"depth": 2, "heads": 4, "expansion": 2}},
        "recipes": {"made": recipe},
        "experiments": {
            "one": {
                "dataset": "iwslt2016_de_en",
                "model": "translation_transformer",
                "recipe": "made",
                "load": {"width": [32]},
                "seeds": 1,
                "metrics": ["performance"],
            }
        },
    }
    return config.load(raw), archive


def test_it_learns_to_translate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The true archive's format, subwords, the training job and the metric: 12 s of one core."""
    loaded, archive = planned(tmp_path, monkeypatch)
    (cell,) = loaded.cells("one")
    record = texts.convert(catalogue.data_source(cell.data.source), [archive])
    store.write("data.h5", record)
    train_block(cell.spec, [0], "data.h5", "weights.safetensors", "history.h5", "code")
    given = Inputs(["weights.safetensors"], ["history.h5"], "data.h5")
    found = measuring.measure_cell("performance", {}, cell.spec, [0], given, "code")
    rows = {row.name: row for row in found.scalars}
    bleu = rows["test_bleu"]
    assert (bleu.unit, bleu.status, bleu.replica) == ("BLEU", "ok", 0)
    assert bleu.value > 80
    assert rows["test_accuracy"].value > 90
    train = [pair[0] for pair in parallel_corpus.corpus(900)[:800]]
    assert not {pair[0] for pair in parallel_corpus.corpus(900)[800:]} & set(train)


def test_of_diverged_replicas_and_other_tasks() -> None:
    metric = measuring.registry.built_in()["performance"]()
    for task, expected in (("translation", {"diverged"}), ("sequence_to_sequence", set())):
        record = store.Record("performance")
        measuring.add_diverged(record, metric, [1], [0], task)
        assert {row.status for row in record.scalars if row.name == "test_bleu"} == expected


# --- networks -----------------------------------------------------------------------------------
def network(seed: int = 0, **arguments: Any) -> nn.Module:
    """A small network in double precision, with initial weights."""
    given = {"width": 8, "depth": 2, "heads": 2, "expansion": 2, **arguments}
    shape: dict[str, Any] = {"num_classes": TOKENS, "vocabulary": TOKENS, "input_shape": SHAPE}
    build = lambda: models.build("translation_transformer", given, **shape)  # noqa: E731
    return initialise(build, seed).double()


@cache
def split(padding: int = 0, count: int = 12) -> Split:
    """Random sentences of several lengths, padded to the longest and beyond."""
    draw = torch.Generator().manual_seed(0)
    source, target = (torch.randint(4, TOKENS, (count, size), generator=draw) for size in (7, 6))
    lengths = torch.randint(1, 7, (2, count, 1), generator=draw)
    lengths[:, 0] = 6
    source = source.masked_fill(torch.arange(7) > lengths[0], 0)
    ended = torch.arange(6) >= lengths[1]
    before = torch.cat([torch.full((count, 1), 2), target[:, :-1].masked_fill(ended[:, :-1], 0)], 1)
    labels = target.masked_fill(torch.arange(6) > lengths[1], IGNORED)
    fill = nn.functional.pad
    inputs = {"source": fill(source, (0, padding)), "before": fill(before, (0, padding))}
    labels = fill(labels, (0, padding), value=IGNORED)
    return Split(Named(inputs), labels, task=find("translation"))


VARIANTS: list[dict[str, Any]] = [{}, {"encoding": "learned"}, {"shared": False}]


@pytest.mark.parametrize("arguments", VARIANTS)
def test_more_padding_changes_nothing(arguments: Mapping[str, Any]) -> None:
    """Loss, gradient and Hessian-vector products, one by one and vectorised."""
    module = network(**arguments)
    params, buffers = state_of(module)
    functional = Functional(module)
    draw = torch.Generator().manual_seed(1)
    direction = torch.randn(len(flatten(params)), generator=draw, dtype=torch.float64)
    found: list[list[Tensor]] = []
    for one in (split(), split(padding=5)):
        operator = HessianOperator(
            functional, params, buffers, one.images, one.labels, loss=one.task, chunk=5
        )
        outputs = functional(params, buffers, one.images, train=False)
        both = stack([params, params]), stack([buffers, buffers])
        twice = Named({name: torch.stack([t, t]) for name, t in one.images.tensors.items()})
        with torch.no_grad():  # vectorised networks know no values, and compute all padding
            assert functional._takes_vmap(*both, twice, train=False)
            many = functional.many(*both, twice, train=False)
        losses = one.task.means(many, torch.stack([one.labels] * 2))
        mean = one.task.mean(outputs, one.labels)
        torch.testing.assert_close(losses, mean.detach().expand(2), rtol=1e-12, atol=0)
        found.append([mean, operator.gradient(), operator(direction)])
    for plain, padded in zip(*found, strict=True):
        torch.testing.assert_close(plain, padded, rtol=1e-10, atol=1e-12)
    start, slope, product = flatten(params), found[0][1], found[0][2]

    def loss(vector: Tensor) -> Tensor:
        sized = dict(zip(params, vector.split([p.numel() for p in params.values()]), strict=True))
        shaped = {name: part.view(params[name].shape) for name, part in sized.items()}
        out = functional(shaped, buffers, split().images, train=False)
        return nn.functional.cross_entropy(out.transpose(1, 2), split().labels)

    step = 1e-5 * direction
    with torch.no_grad():
        ends = [loss(start + sign * step) for sign in (1, -1)]
    assert float(slope @ direction) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)
    _, expected = torch.autograd.functional.hvp(loss, start, direction)
    torch.testing.assert_close(product, expected, rtol=1e-8, atol=1e-10)


def test_no_place_sees_what_comes_after() -> None:
    module, (one, other) = network(), (split().images, split().images.clone())
    other.tensors["before"][0, 3:] = 4 + (one.tensors["before"][0, 3:] - 3) % 7  # others
    with torch.no_grad():
        a, b = (module(**inputs.tensors)[0] for inputs in (one, other))
    torch.testing.assert_close(a[:3], b[:3], rtol=1e-12, atol=1e-12)
    assert float((a[3:] - b[3:]).abs().min()) > 1e-6


def test_attention_written_out_for_one_layer() -> None:
    """Softmax of scaled products, head by head and token by token."""
    torch.manual_seed(0)
    layer = Attention(6, 2, 0.0).double()
    x, y = torch.randn(1, 3, 6).double(), torch.randn(1, 4, 6).double()
    mask = torch.tensor([False, True, False, False]).view(1, 1, 1, 4)
    found, parts = layer(x, y, mask)[0], (layer.query, layer.key, layer.value)
    query, key, value = (f(z)[0].detach() for f, z in zip(parts, (x, y, y), strict=True))
    seen, mixed = [0, 2, 3], torch.zeros(3, 6).double()
    for head in (slice(0, 3), slice(3, 6)):
        for place in range(3):
            scores = [float(query[place, head] @ key[k, head]) / math.sqrt(3) for k in seen]
            chances = np.exp(scores) / np.exp(scores).sum()
            mixed[place, head] = sum(c * value[k, head] for c, k in zip(chances, seen, strict=True))
    torch.testing.assert_close(found, layer.output(mixed), rtol=1e-12, atol=1e-12)


def _of_torch(module: TranslationTransformer) -> nn.Transformer:
    """torch's own encoder and decoder with the same weights."""
    kind = {"batch_first": True, "norm_first": True, "dtype": torch.float64}
    reference = nn.Transformer(8, 2, 2, 2, 16, dropout=0.0, **kind)

    def attention(theirs: nn.MultiheadAttention, ours: Attention) -> None:
        parts = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
        theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
        theirs.out_proj.load_state_dict(ours.output.state_dict())

    for side in ("encoder", "decoder"):
        stacked = getattr(reference, side)
        stacked.norm.load_state_dict(getattr(module, f"{side}_norm").state_dict())
        for theirs, ours in zip(stacked.layers, getattr(module, side), strict=True):
            attention(theirs.self_attn, ours.attention)
            norms = [ours.norm1, *([ours.norm2] if ours.crossed else []), ours.norm3]
            if ours.crossed:
                attention(theirs.multihead_attn, ours.cross)
            for number, norm in enumerate(norms, 1):
                getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())
            theirs.linear1.load_state_dict(ours.wide.state_dict())
            theirs.linear2.load_state_dict(ours.narrow.state_dict())
    return reference


def test_logits_are_those_of_torchs_transformer() -> None:
    module = network()
    assert isinstance(module, TranslationTransformer)
    for parameter in module.parameters():  # biases and norms as well, which start at 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    source, before = split().images.tensors["source"], split().images.tensors["before"]
    table = module.target.weight
    x, y = (table[tokens] * 8**0.5 + sinusoids(tokens.shape[1], 8) for tokens in (source, before))
    later = torch.ones(6, 6, dtype=torch.bool).triu(1)
    padded = source == 0
    reference = _of_torch(module)
    hidden = reference(
        x, y, tgt_mask=later, src_key_padding_mask=padded, memory_key_padding_mask=padded
    )
    counts = split().labels != IGNORED
    torch.testing.assert_close(
        module(source, before)[counts], (hidden @ table.T)[counts], rtol=1e-10, atol=1e-10
    )


def test_sinusoids_are_those_of_the_paper() -> None:
    found = sinusoids(5, 6)
    for place in range(5):
        for column in range(6):
            angle = place / 10000 ** (2 * (column // 2) / 6)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(found[place, column]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("arguments", VARIANTS)
def test_counts_of_parameters_and_multiplications(arguments: Mapping[str, Any]) -> None:
    declared = catalogue.NETWORKS["translation_transformer"]
    given = {**declared.arguments, "width": 8, "depth": 2, "heads": 2, "positions": 9, **arguments}
    shape: dict[str, Any] = {"source": (9,), "before": (9,)}
    module = models.build(
        "translation_transformer", given, num_classes=13, vocabulary=13, input_shape=shape
    )
    parameters, work = declared.cost(given, 13, 0, 9)
    assert sum(p.numel() for p in module.parameters()) == parameters
    tokens = torch.ones(1, 9, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        module(tokens, tokens)
    assert counter.get_total_flops() / 2 == work


def test_several_replicas_train_as_one_by_one() -> None:
    # Not by Adam: a bias of keys changes no softmax, and Adam follows the rounding of its gradient.
    recipe = Recipe(epochs=3, batch_size=6, learning_rate=0.1, label_smoothing=0.1)
    build = lambda: network().float()  # noqa: E731
    together = Engine(build, recipe, [0, 1], split()).train()
    for index, seed in enumerate((0, 1)):
        alone = Engine(build, recipe, [seed], split()).train()
        for name, value in alone.checkpoints["final"][0].items():
            both = together.checkpoints["final"][0][name][index]
            torch.testing.assert_close(both, value[0], rtol=1e-3, atol=1e-4)


# --- BLEU ---------------------------------------------------------------------------------------
class Known(nn.Module):
    """Says what it was told to say, token by token."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers, self.calls = answers, 0

    def forward(self, inputs: Named) -> Tensor:
        self.calls += 1
        source, before = inputs.tensors["source"], inputs.tensors["before"]
        said = self.answers[source[:, 0] - 4, : before.shape[1]]
        return nn.functional.one_hot(said, TOKENS).float()


def test_greedy_translations_end_and_are_no_longer_than_allowed() -> None:
    answers = torch.tensor([[7, 8, 3, 9, 9, 9], [6, 3, 5, 5, 5, 5], [5, 5, 5, 5, 5, 5]])
    inputs = Named({"source": torch.tensor([[4], [5], [6]]), "before": torch.full((3, 6), 2)})
    network_ = Known(answers)
    assert greedy(network_, inputs) == [[7, 8, 3, 0, 0, 0], [6, 3, 0, 0, 0, 0], [5] * 6]
    short = inputs[:2]
    network_.calls = 0
    assert greedy(network_, short) == [[7, 8, 3], [6, 3, 0]]
    assert network_.calls == 3  # it stops where all have ended
    assert greedy(lambda given: network_(given) * math.nan, inputs) is None


def test_bleu_is_sacrebleus() -> None:
    """And that of n-grams counted by hand, where there is nothing to smooth."""
    found = ["the cat sat on the mat today", "a dog runs home now"]
    wanted = ["the cat sat on a mat today", "a dog runs home now"]
    value = corpus_bleu(found, wanted)
    assert value == sacrebleu.corpus_bleu(found, [wanted]).score
    precisions = [11 / 12, 8 / 10, 5 / 8, 3 / 6]  # equal lengths: no penalty
    assert value == pytest.approx(100 * math.prod(precisions) ** 0.25)
    assert corpus_bleu(wanted, wanted) == pytest.approx(100)
    assert corpus_bleu(["", ""], wanted) == 0


def test_decoding_undoes_encoding() -> None:
    pairs = parallel_corpus.corpus(300)
    sentences = [side for pair in pairs for side in pair]
    model = texts.learn(sentences, 100)
    assert model == texts.learn(sentences, 100)  # bit for bit
    known = texts.Texts(model, [])
    assert known.vocabulary == 100
    for text in [*sentences, "the  two   spaces", "I weiß.", " leads and trails "]:
        tokens = known.encode(text)
        assert known.decode([*tokens, texts.END, 7]) == text
        assert not set(tokens) & {texts.PADDING, texts.UNKNOWN, texts.BEGIN, texts.END}
    assert texts.UNKNOWN in known.encode("日本")
