"""A made language pair, and files of it in the two forms that sentence pairs come in.

The source has its verb at the end or second place, the target always between its nouns: so words
are translated one by one, and put into another order.
"""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

Pairs = list[tuple[str, str]]

NOUNS = {"Hund": "dog", "Katze": "cat", "Haus": "house", "Baum": "tree", "Vogel": "bird"}
NOUNS |= {"Fisch": "fish", "Mann": "man", "Frau": "woman", "Kind": "child", "Pferd": "horse"}
VERBS = {"sieht": "sees", "hört": "hears", "sucht": "seeks", "trägt": "carries", "malt": "paints"}
ADJECTIVES = {"alte": "old", "kleine": "small", "schnelle": "quick", "müde": "tired"}
ADVERBS = {"heute": "today", "oft": "often", "hier": "here", "bald": "soon"}


def corpus(count: int, seed: int = 0) -> Pairs:
    """Return different sentence pairs."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        source, target = _sentence(draw)
        found[source] = target
    return list(found.items())


def _sentence(draw: random.Random) -> tuple[str, str]:
    (one, first), (two, second) = _noun(draw), _noun(draw)
    verb, acts = draw.choice(list(VERBS.items()))
    if draw.random() < 0.5:
        return f"ich weiß, dass {one} {two} {verb}.", f"I know that {first} {acts} {second}."
    adverb, when = draw.choice(list(ADVERBS.items()))
    source = f"{adverb.capitalize()} {verb} {one} {two}."
    return source, f"{first.capitalize()} {acts} {second} {when}."


def _noun(draw: random.Random) -> tuple[str, str]:
    noun, name = draw.choice(list(NOUNS.items()))
    if draw.random() < 0.5:
        return f"das {noun}", f"the {name}"
    adjective, kind = draw.choice(list(ADJECTIVES.items()))
    return f"das {adjective} {noun}", f"the {kind} {name}"


def write_files(folder: Path, train: Pairs, test: Pairs) -> None:
    """Write `train.de`, `train.en`, `test.de`, `test.en`, a sentence per line."""
    for name, pairs in (("train", train), ("test", test)):
        for side, language in enumerate(("de", "en")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")


def tagged(pairs: Pairs, side: int) -> str:
    """Return training text as IWSLT publishes it: talks of ten sentences, with lines about each."""
    lines = []
    for first in range(0, len(pairs), 10):
        lines += [f"<url>http://www.example.org/talks/{first}</url>", "<keywords>talks</keywords>"]
        lines += ["<speaker>A. Speaker</speaker>", f"<talkid>{first}</talkid>"]
        lines += ["<title>A. Speaker: A talk</title>", "<description>TED Talk</description>"]
        lines += [f" {pair[side]} " for pair in pairs[first : first + 10]]
        lines += ['<reviewer href="http://www.example.org/r">R</reviewer>']
        lines += ['<translator href="http://www.example.org/t">T</translator>']
    return "\n".join(lines) + "\n"


def segments(pairs: Pairs, side: int) -> str:
    """Return held-out text as IWSLT publishes it."""
    kind = ("srcset", "refset")[side]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<mteval>", f'<{kind} setid="tst2014">']
    for first in range(0, len(pairs), 10):
        lines += [f'<doc docid="{first}" genre="lectures">', "<title>Tom &amp; Tim</title>"]
        some = [pair[side].replace("&", "&amp;") for pair in pairs[first : first + 10]]
        lines += [f'<seg id="{n + 1}"> {text} </seg>' for n, text in enumerate(some)]
        lines += ["</doc>"]
    return "\n".join([*lines, f"</{kind}>", "</mteval>"]) + "\n"


def members(train: Pairs, test: Pairs) -> dict[str, str]:
    """Return name -> text of the files of `de-en.tgz`."""
    found = {"de-en/README": "read me"}
    for side, language in enumerate(("de", "en")):
        found[f"de-en/train.tags.de-en.{language}"] = tagged(train, side)
        found[f"de-en/IWSLT16.TED.tst2014.de-en.{language}.xml"] = segments(test, side)
        found[f"de-en/IWSLT16.TED.tst2013.de-en.{language}.xml"] = segments(test[:1], side)
    return found


def write_archive(path: Path, files: dict[str, str]) -> Path:
    """Write `2016-01.tgz`, which has `de-en.tgz` with these files."""
    inner = _tar({name: text.encode() for name, text in files.items()})
    name = "2016-01/texts/de/en/de-en.tgz"
    path.write_bytes(_tar({"2016-01/texts/fr/en/fr-en.tgz": b"others", name: inner}))
    return path


def _tar(files: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w:gz") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return stored.getvalue()
