"""Does a search find the turns of a long conversation that answer a question about it? LoCoMo.

`--data` names a file in LoCoMo's published format (Maharana et al., "Evaluating Very Long-Term
Conversational Memory of LLM Agents", 2024; CC BY-NC 4.0, so it is not part of this repository, and
nothing is fitted on it). Each conversation is a store of its own and each turn an event: a note that
begins with who speaks, followed by the caption of a photo if there is one.

turn_recall_at_10 is the official measure: the mean over questions of the share of evidence turns
among the first ten turns returned; turn_hit_at_10: at least one. session_recall_at_10 counts sessions
instead, in the order of the sum of their three best turns: an easy measure, since a conversation has
some 19 to 32. Categories 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop count in all figures,
5 (adversarial) stands apart. Questions without usable evidence are left out. Baselines and
intervals: `bench.grading`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.grading import HEADINGS, SEED, Contest, K, Scores, graded, interval, result, rows
from bench.lessons import conversation_events
from bench.report import print_json, print_progress, print_table
from localmem_node.errors import NodeError
from localmem_node.retrieval.encoder import OnnxEncoder
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.seams import Encoder
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event

CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
ADVERSARIAL: Final = 5
SESSION_DEPTH: Final = 100
"""Turns that decide which sessions come first."""

SESSION_TURNS: Final = 3
"""Best turns of a session that count."""

_EVIDENCE: Final = re.compile(r"D\d+:\d+")
_WHEN: Final = "%I:%M %p on %d %B, %Y"


class NotLocomo(NodeError):
    """A file that is no LoCoMo data."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its category, and the positions of the turns that answer it."""

    text: str
    category: int
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation: its turns as events, the session of each, and the questions."""

    name: str
    events: list[Event]
    sessions: list[int]
    questions: list[Asked]


def conversations(data: Path) -> list[Held]:
    """The conversations of a file. Raises NotLocomo."""
    try:
        return [_conversation(each) for each in json.loads(data.read_text(encoding="utf-8"))]
    except OSError as error:
        raise NotLocomo(f"{data}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, EventError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise NotLocomo(f"{data} is not in LoCoMo's format ({problem})") from None


def _conversation(sample: dict[str, Any]) -> Held:
    held = sample["conversation"]
    numbers = sorted(int(name[8:]) for name in held if re.fullmatch(r"session_\d+", name))
    turns: list[tuple[int, str, str, int]] = []
    places: dict[str, int] = {}
    for number in numbers:
        when = datetime.strptime(held[f"session_{number}_date_time"], _WHEN).replace(tzinfo=UTC)
        for at, turn in enumerate(held[f"session_{number}"]):
            places[turn["dia_id"]] = len(turns)
            caption = turn.get("blip_caption")
            text = turn["text"] + (f" [shares a photo of {caption}]" if caption else "")
            # A turn has no time of its own: a second apart they keep their order.
            turns.append((number, turn["speaker"], text, int(when.timestamp() * 1000) + 1000 * at))
    questions = []
    for asked in sample["qa"]:
        named = dict.fromkeys(_EVIDENCE.findall(" ".join(asked["evidence"])))
        answers = tuple(places[name] for name in named if name in places)
        if answers:
            questions.append(Asked(asked["question"], int(asked["category"]), answers))
    sessions = [turn[0] for turn in turns]
    return Held(str(sample["sample_id"]), conversation_events(turns), sessions, questions)


def measure(held: Sequence[Held], encoder: Encoder) -> dict[str, Any]:
    """All figures of the module's description."""
    scores: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    by_session: list[float] = []
    categories: list[int] = []
    chance = np.random.default_rng(SEED)
    for one in held:
        print_progress(f"{one.name}: {len(one.events)} turns, {len(one.questions)} questions …")
        contest = Contest(encoder.dimensions)
        vectors = encoder.encode([text_for_encoding(event) for event in one.events])
        for slot, event in enumerate(one.events):
            contest.add(slot, event, vectors[slot])
        for asked in one.questions:
            vector = encoder.encode([asked.text])[0]
            for method, slots in contest.rankings(asked.text, vector, chance).items():
                scores[method].append(graded(slots, asked.answers))
            hits = contest.product.search(asked.text, vector, SESSION_DEPTH)
            found = best_sessions([(one.sessions[hit.slot], hit.score) for hit in hits])[:K]
            wanted = {one.sessions[at] for at in asked.answers}
            by_session.append(len(wanted & set(found)) / len(wanted))
            categories.append(asked.category)
    of = np.array(categories)
    answered = np.isin(of, list(CATEGORIES))
    every = {method: np.array(each) for method, each in scores.items()}
    sessions = np.array(by_session)
    return {
        "questions": int(answered.sum()),
        "conversations": len(held),
        **_figures(every, answered),
        "session_recall_at_10": _percent(sessions[answered].mean()),
        "session_interval": [_percent(bound) for bound in interval(sessions[answered])],
        "by_category": {
            name: {"questions": int((of == number).sum()), **_figures(every, of == number)}
            for number, name in {**CATEGORIES, ADVERSARIAL: "adversarial"}.items()
            if (of == number).any()
        },
    }


def best_sessions(turns: Iterable[tuple[int, float]]) -> list[int]:
    """Sessions, best first, by the sum of their SESSION_TURNS best scores; `turns` best first."""
    totals: dict[int, float] = defaultdict(float)
    counts: dict[int, int] = defaultdict(int)
    for session, score in turns:
        if counts[session] < SESSION_TURNS:
            counts[session] += 1
            totals[session] += score
    return sorted(totals, key=lambda session: -totals[session])


def _figures(scores: dict[str, Scores], chosen: np.typing.NDArray[np.bool_]) -> dict[str, Any]:
    found = result({method: each[chosen] for method, each in scores.items()})
    return {
        "turn_recall_at_10": found["recall_at_10"],
        "turn_hit_at_10": found["hit_at_10"],
        **found,
    }


def _percent(share: float) -> float:
    return round(100 * float(share), 1)


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark. Raises NotLocomo."""
    parser = argparse.ArgumentParser("bench locomo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a file in LoCoMo's format")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    encoder = OnnxEncoder()
    measured = measure(conversations(options.data), encoder)
    if options.json:
        print_json({"encoder": encoder.fingerprint} | measured)
        return
    print(
        "{questions} questions of categories 1 to 4, {conversations} conversations\n".format(
            **measured
        )
    )
    print_table(HEADINGS, rows(measured))
    print(f"\nsession recall@10 {measured['session_recall_at_10']}\n")
    print_table(
        ["category", "questions", "recall@10", "hit@10", "bm25 recall@10", "minilm recall@10"],
        [
            [
                name,
                each["questions"],
                f"{each['turn_recall_at_10']:.1f}",
                f"{each['turn_hit_at_10']:.1f}",
                f"{each['baselines']['bm25']['recall_at_10']:.1f}",
                f"{each['baselines']['minilm']['recall_at_10']:.1f}",
            ]
            for name, each in measured["by_category"].items()
        ],
    )
