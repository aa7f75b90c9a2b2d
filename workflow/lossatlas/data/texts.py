"""Sentence pairs -> tokens of subwords, as examples of `sequence_to_sequence`; and back to text.

Subwords are those of byte pair encoding, of both languages together, learned by sentencepiece from
the training pairs alone. Texts are taken as they are: no normalisation, so that decoding gives back
what was encoded, but for characters that training has not.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.data import examples, hashes, iwslt
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import DataSource
from lossatlas.spec.textdata import SPLITS, Pair, lines, pairs_of
from lossatlas.store import Array, Record
from lossatlas.tasks import IGNORED

PADDING, UNKNOWN, BEGIN, END = range(4)  # tokens that stand for no text
SUBWORDS, REFERENCES = "subwords", "test_references"  # arrays of a record besides the examples
_LONGEST_LINE = 2**20  # bytes; sentencepiece leaves longer ones out


@dataclass(frozen=True)
class Texts:
    """What tokens of a data set mean.

    Attributes:
        model: The subwords, as sentencepiece stores them.
        references: Translations of the sentences of the test split, as they were written.
    """

    model: bytes
    references: list[str]

    @cached_property
    def _subwords(self) -> Any:
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self.model)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self._subwords.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without those for its begin and end."""
        return list(self._subwords.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, up to the first that ends it.

        Raises:
            UserError: If there is no such token.
        """
        kept = list(tokens)
        if END in kept:
            kept = kept[: kept.index(END)]
        if odd := [one for one in kept if not 0 <= one < self.vocabulary]:
            fix = f"tokens are whole numbers from 0 to {self.vocabulary - 1}"
            raise UserError(f"token {odd[0]} is in no vocabulary", where="text", fix=fix)
        return str(self._subwords.decode(kept))


def convert(source: DataSource, files: Sequence[Path]) -> Record:
    """Return the record of sentence pairs that a config describes.

    Args:
        source: What was found when the config was read.
        files: The archive; of the user's own text files four, in the order of the config.

    Returns:
        A record of kind 'dataset', as of `examples.to_record`: inputs "source" (N, S), which ends
        with `END`, and "before" (N, L), which begins with `BEGIN`; targets (N, L), which end with
        `END`. Inputs are padded with `PADDING`, targets with -100. Arrays besides: the subwords and
        the references, as bytes. Settings besides: `text`, how many training pairs were too long.

    Raises:
        UserError: If a file is not the one that was described, or holds other than it should.
    """
    settings = json.loads(source.text)
    train, test = _read(source, files)
    return record_of(source, train[: settings["pairs"]], test)


def record_of(source: DataSource, train: Sequence[Pair], test: Sequence[Pair]) -> Record:
    """Return the record of these sentence pairs, as `convert`.

    Args:
        source: What they are called, how many tokens there are, and how long a pair may be.
        train: To train on, and to learn the tokens from.
        test: The others.

    Raises:
        UserError: If there are fewer tokens, or all training pairs are longer.
    """
    settings = json.loads(source.text)
    texts = Texts(
        learn((side for one in train for side in (one.source, one.target)), source.classes),
        [one.target for one in test],
    )
    coded = {"train": _encoded(texts, train), "test": _encoded(texts, test)}
    fitting = [one for one in coded["train"] if max(map(len, one)) <= settings["longest"]]
    if not fitting:
        least = min(max(map(len, one)) for one in coded["train"])
        what = f"all training pairs have more than {settings['longest']} tokens"
        raise UserError(what, where="text.longest", fix=f"at least {least}")
    left_out = len(coded["train"]) - len(fitting)
    record = examples.to_record(source.name, _arrays({**coded, "train": fitting}, texts.vocabulary))
    stored = {SUBWORDS: texts.model, REFERENCES: "\n".join(texts.references).encode()}
    about = {"sha256": source.sha256, "version": source.version, "licence": source.licence}
    return replace(
        record,
        arrays={**record.arrays, **{name: _stored(content) for name, content in stored.items()}},
        settings={**record.settings, "text": {**settings, "left_out": left_out}},
        spec={**record.spec, **about},
    )


def texts_of(record: Record) -> Texts | None:
    """Return what tokens of a record mean; None of data that are no sentence pairs."""
    if SUBWORDS not in record.arrays:
        return None
    model, joined = (record.arrays[name].values.tobytes() for name in (SUBWORDS, REFERENCES))
    return Texts(model, joined.decode().split("\n"))


def learn(sentences: Iterable[str], vocabulary: int) -> bytes:
    """Return subwords of byte pair encoding (Sennrich et al., 2016), as sentencepiece stores them.

    Args:
        sentences: Of all languages.
        vocabulary: How many tokens, those of padding, unknown, begin and end among them.

    Raises:
        UserError: If the sentences have not so many subwords, or more characters.
    """
    from sentencepiece import SentencePieceTrainer

    stored = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=stored,
            model_type="bpe",
            vocab_size=vocabulary,
            pad_id=PADDING,
            unk_id=UNKNOWN,
            bos_id=BEGIN,
            eos_id=END,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=_LONGEST_LINE,
            num_threads=1,  # so that the same sentences give the same subwords, bit for bit
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _refused(vocabulary, str(error)) from None
    return stored.getvalue()


def _refused(vocabulary: int, said: str) -> UserError:
    """Say in our words what sentencepiece refuses."""
    where = "text.vocabulary"
    if most := re.search(r"too high .*<= (\d+)", said):
        what = f"{vocabulary} is more subwords than the sentences have"
        return UserError(what, where=where, fix=f"at most {most[1]}")
    if least := re.search(r"required_chars\. \d+ vs (\d+)", said):
        what = f"{vocabulary} is fewer than the characters of the sentences"
        return UserError(what, where=where, fix=f"at least {least[1]}")
    return UserError(f"sentencepiece refuses the sentences: {said}", where=where)


def _read(source: DataSource, files: Sequence[Path]) -> tuple[list[Pair], list[Pair]]:
    if not source.own:
        (archive,) = files
        if what := hashes.difference(archive, source.sha256):
            raise UserError(what, where=str(archive), fix="delete it and fetch it again")
        return iwslt.read(archive)
    found = [lines(file, "text") for file in files]
    train, test = (
        pairs_of(both, f"text.{name}")
        for name, both in zip(SPLITS, (found[:2], found[2:]), strict=True)
    )
    return train, test


def _encoded(texts: Texts, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of source and target of each pair, each with its end."""
    return [([*texts.encode(p.source), END], [*texts.encode(p.target), END]) for p in pairs]


def _arrays(
    coded: dict[str, list[tuple[list[int], list[int]]]], vocabulary: int
) -> dict[str, np.ndarray | int]:
    """Return inputs and targets of both splits, as long as the longest sentence of both."""
    every = [pair for pairs in coded.values() for pair in pairs]
    lengths = [max(len(pair[side]) for pair in every) for side in (0, 1)]
    found: dict[str, np.ndarray | int] = {"classes": vocabulary}
    for split, pairs in coded.items():
        source, target = zip(*pairs, strict=True)
        found[f"{split}_inputs.source"] = _padded(source, lengths[0], PADDING)
        before = [[BEGIN, *one[:-1]] for one in target]
        found[f"{split}_inputs.before"] = _padded(before, lengths[1], PADDING)
        found[f"{split}_targets"] = _padded(target, lengths[1], IGNORED)
    return found


def _padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> np.ndarray:
    table = np.full((len(rows), length), fill, dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _stored(content: bytes) -> Array:
    return Array(np.frombuffer(content, np.uint8).copy(), ("byte",))
