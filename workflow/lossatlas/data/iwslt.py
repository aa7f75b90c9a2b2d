"""Reads the TED talks of IWSLT 2016 from the archive as published: `2016-01.tgz`.

In it lies an archive for each pair of languages, `2016-01/texts/de/en/de-en.tgz`, and in that two
kinds of text. Training text, `train.tags.de-en.de`, has a sentence per line, between lines about
each talk that begin with a tag (`<url>`, `<title>`, `<description>`, ...). Held-out text,
`IWSLT16.TED.tst2014.de-en.de.xml`, has them as `<seg id="1"> ... </seg>`.

Nothing is unpacked to disk: the names in an archive lead nowhere, and links in it are not followed.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import unescape

from lossatlas.errors import UserError
from lossatlas.spec.textdata import Pair, pairs_of

LANGUAGES = ("de", "en")  # source and target
HELD_OUT = "tst2014"  # of the sets with references the last; torchtext tests on it, too
MOST_BYTES = 2**29  # of one file: a damaged archive must not fill the memory

_TAGS = "url|keywords|speaker|talkid|title|description|reviewer|translator|doc"
_ABOUT = re.compile(rf"\s*</?({_TAGS})\b")
_SENTENCE = re.compile(r'<seg id="([^"]*)">(.*?)</seg>', re.DOTALL)
_FIX = "delete it and fetch it again"


def read(archive: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the sentence pairs of training, and the held-out ones, in the order of the files.

    Args:
        archive: `2016-01.tgz`, or the archive `de-en.tgz` that lies in it.

    Raises:
        UserError: If it is damaged, or does not hold them.
    """
    pair = "-".join(LANGUAGES)
    wanted = {
        f"{start}.{pair}.{language}{end}": (split, language)
        for split, start, end in (
            ("train", "train.tags", ""),
            (HELD_OUT, f"IWSLT16.TED.{HELD_OUT}", ".xml"),
        )
        for language in LANGUAGES
    }
    with _explained(archive), tarfile.open(archive) as outer:
        found = {wanted[name]: text for name, text in _files(outer, f"{pair}.tgz", wanted)}
    if lost := [name for name, key in wanted.items() if key not in found]:
        raise UserError(f"holds no '{lost[0]}'", where=str(archive), fix="give 2016-01.tgz")
    train = [_lines(found["train", language]) for language in LANGUAGES]
    numbers, held = zip(*(_segments(found[HELD_OUT, one]) for one in LANGUAGES), strict=True)
    where = f"{archive}, {HELD_OUT}"
    if numbers[0] != numbers[1]:
        what = f"its {len(numbers[0])} segments are not those of the {len(numbers[1])} references"
        raise UserError(what, where=where, fix=_FIX)
    return pairs_of(train, f"{archive}, train"), pairs_of(held, where)


def _files(tar: tarfile.TarFile, inner: str, wanted: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield name -> text of the wanted files of an archive, and of the archive `inner` in it."""
    for member in tar:
        name = member.name.rpartition("/")[2]
        if not member.isfile() or not (name in wanted or name == inner):
            continue
        if member.size > MOST_BYTES:
            raise tarfile.TarError(f"'{name}' has {member.size} bytes")
        file = tar.extractfile(member)
        assert file is not None  # of a regular file
        if name == inner:
            with tarfile.open(fileobj=io.BytesIO(file.read())) as within:
                yield from _files(within, "", wanted)
        else:
            yield name, file.read().decode("utf-8-sig")


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """Say in one line what is wrong with an archive."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        what = f"cannot be unpacked: {error}"
    except UnicodeDecodeError as error:
        what = f"has text that is not UTF-8, at byte {error.start}"
    else:
        return
    raise UserError(what, where=str(archive), fix=_FIX)


def _lines(text: str) -> list[str]:
    """Return the sentences of training text: the lines that are not about a talk."""
    rows = text.split("\n")[: -1 if text.endswith("\n") else None]
    return [line.strip() for line in rows if not _ABOUT.match(line)]


def _segments(text: str) -> tuple[list[str], list[str]]:
    """Return the numbers of the segments of held-out text, anew in each talk; and the segments."""
    found = _SENTENCE.findall(text)
    others = {"&quot;": '"', "&apos;": "'"}
    sentences = [unescape(text, others).replace("\n", " ").strip() for _, text in found]
    return [number for number, _ in found], sentences
