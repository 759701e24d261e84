"""Does a search find a function by what its docstring says? Over functions of installed packages.

An event is a function without its docstring (`bench.functions`: which ones), as an editor would have
sent it: path, lines, source. A query is the first sentence of its docstring, without markup, if it

- has four words or more, and is no pointer elsewhere (see, same as, deprecated, …), no signature,
  no template, nothing that says no more than that something is returned, set or initialised;
- does not have the function's own name in it, if that has several parts: `read_text` is not how
  somebody asks who does not know it; `median` is a word of the language;
- is no other function's first sentence.

The answers are the function and those with the same statements. Queries are drawn by the seed.
Scores, intervals and baselines: `bench.grading`.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.functions import Function, functions, name_of, packages
from bench.git_hunks import size
from bench.grading import HEADINGS, SEED, Contest, graded, result, rows
from bench.report import print_json, print_progress, print_table
from localmem_node.errors import NodeError
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.seams import Encoder
from localmem_protocol.events import Event, parse_draft, stamp

FUNCTIONS: Final = 10_000
QUERIES: Final = 1_000
WORDS_MIN: Final = 4
WORDS_MAX: Final = 40
"""A first sentence that goes on longer is a list that lost its markup."""

SNIPPET_CHARACTERS_MAX: Final = 8_000

_ROLE: Final = re.compile(r":[a-z:]+:`[~!.]?([^`<]*?)(?:\s*<[^>`]*>)?`")
_MARKUP: Final = re.compile(r"`+|(?<![\w*])\*+(?=\w)|(?<=\w)\*+(?![\w*])")
_SENTENCE: Final = re.compile(r"(?<=[^\s.])[.!?:](?=\s|$)")
_ABBREVIATION: Final = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|al|resp|approx)$", re.IGNORECASE)
_NO_QUERY: Final = re.compile(
    r"^(?:see|same as|alias|deprecated|inherit|overrid|like|wrapper (?:for|around)|as (?:in|above)|todo"
    r"|note|args|arguments|parameters|returns?$|example|usage|internal|private|helper)\b"
    r"|^(?:returns?|sets?|gets?|initiali[sz]es?|creates?)(?: an?| the)? (?:new )?"
    r"(?:self|instance|value|object|it)\b(?: of self)?$"
    r"|>>>|%\(|\{\w*\}|->|^\w+\([^)]*\)",
    re.IGNORECASE,
)


class NoFunctions(NodeError):
    """Nothing is installed to ask about."""


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring on one line, without reStructuredText markup or its stop."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    text = " ".join(_MARKUP.sub("", _ROLE.sub(r"\1", paragraph)).split())
    for stop in _SENTENCE.finditer(text):
        if not _ABBREVIATION.search(text[: stop.start()]):
            return text[: stop.start()]
    return text


def is_query(text: str, name: str) -> bool:
    """Whether a first sentence asks for the function of this name, and does not name it."""
    if not WORDS_MIN <= len(text.split()) <= WORDS_MAX or _NO_QUERY.search(text):
        return False
    several = "_" in name.strip("_") or bool(re.search(r"[a-z][A-Z]", name))
    return not (several and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))


def queries_of(
    found: Sequence[Function], count: int, seed: int
) -> list[tuple[str, frozenset[int]]]:
    """`count` queries (fewer, if there are no more) with the positions of their answers."""
    same: defaultdict[bytes, set[int]] = defaultdict(set)
    for at, function in enumerate(found):
        same[function.body].add(at)
    texts = [first_sentence(function.docstring) for function in found]
    times = Counter(map(str.casefold, texts))
    able = [
        at
        for at, (text, function) in enumerate(zip(texts, found, strict=True))
        if times[text.casefold()] == 1 and is_query(text, function.name)
    ]
    picked = np.random.default_rng(seed).permutation(len(able)).tolist()[:count]
    return [(texts[able[at]], frozenset(same[found[able[at]].body])) for at in sorted(picked)]


def event_of(function: Function, number: int) -> Event:
    """The event with this sequence number that an editor would have sent of a function."""
    draft = parse_draft(
        {
            "timestamp": number,
            "filePath": function.path,
            "selectionRange": (function.first, function.last),
            "snippet": function.source[:SNIPPET_CHARACTERS_MAX],
        }
    )
    return stamp(draft, device="0" * 16, clock=number, sequence=number)


def measure(found: Sequence[Function], count: int, seed: int, encoder: Encoder) -> dict[str, Any]:
    """{functions, packages, queries, hit_at_10, …, baselines}. Raises NoFunctions."""
    asked = queries_of(found, count, seed)
    if not asked:
        raise NoFunctions("no function with a docstring that asks for it; name other packages")
    sources = {function.package for function in found}
    print_progress(
        f"{len(found)} functions of {len(sources)} packages, {len(asked)} queries; encoding …"
    )
    contest = Contest(encoder.dimensions)
    for slot, function in enumerate(found):
        event = event_of(function, slot + 1)
        contest.add(slot, event, encoder.encode([text_for_encoding(event)])[0])
    print_progress("asking …")
    chance = np.random.default_rng(seed)
    scores: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for text, answers in asked:
        vector = encoder.encode([text])[0]
        for method, slots in contest.rankings(text, vector, chance).items():
            scores[method].append(graded(slots, answers))
    counts = {"functions": len(found), "packages": len(sources), "queries": len(asked)}
    return counts | result({method: np.array(rows) for method, rows in scores.items()})


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises NoFunctions."""
    options = _options(arguments)
    roots = chosen(packages(), options.packages, options.without)
    found = functions(roots, options.functions, options.seed)
    encoder = OnnxEncoder()
    measured = measure(found, options.queries, options.seed, encoder)
    if options.json:
        print_json({"encoder": encoder.fingerprint} | measured)
        return
    print("{functions} functions, {packages} packages, {queries} queries\n".format(**measured))
    print_table(HEADINGS, rows(measured))


def chosen(
    roots: Sequence[Path], packages: Sequence[str], without: Sequence[str] = ()
) -> list[Path]:
    """The roots with these names, all if there are none, but those named `without`."""
    return [
        root
        for root in roots
        if (not packages or name_of(root) in packages) and name_of(root) not in without
    ]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench docstrings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--packages", type=_names, default=(), help="only these, with commas")
    parser.add_argument("--without", type=_names, default=(), help="not these, with commas")
    parser.add_argument("--functions", type=size, default=FUNCTIONS, help="events (10000)")
    parser.add_argument("--queries", type=size, default=QUERIES, help="of these at most (1000)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
