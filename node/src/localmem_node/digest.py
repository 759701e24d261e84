"""What a session is told when it begins: what was worked on last in its project; and after a
compaction, what it did itself.

Pure: the same events and time give the same text. It stands under the line that says what recorded
text is (`context.WARNING`), and every piece of recorded text is one line between backticks, which it
cannot end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from localmem_node.context import CLOSING, LABEL_CHARACTERS_MAX, ORIGIN, WARNING, age
from localmem_node.plain_text import clean_label, clean_start, size_of
from localmem_node.results import Context
from localmem_protocol.events import Event

DIGEST_CHARACTERS_MAX: Final = 2000
"""UTF-16 characters of a digest: some 500 tokens, paid with every session."""

SESSIONS_MAX: Final = 5
PROMPT_CHARACTERS: Final = 200
COMMAND_CHARACTERS: Final = 100
LINE_CHARACTERS: Final = 160
PATH_CHARACTERS: Final = 100
FILES_MAX: Final = 6
RANGES_MAX: Final = 4

PROJECT_OPENING: Final = f"{ORIGIN}: the last work in this project, newest session first. {WARNING}"
SESSION_OPENING: Final = f"{ORIGIN}: what was done in this session before, oldest first. {WARNING}"


@dataclass(slots=True)
class _Line:
    """A line of a digest, and the events that it tells of; what is less urgent goes first when there
    is no room."""

    text: str
    ids: list[str]
    urgency: int = 0


@dataclass(slots=True)
class _Work:
    """The events of a session, by their time, sorted into what a digest tells."""

    events: list[Event]
    prompts: list[Event] = field(default_factory=list)
    edits: dict[str, list[Event]] = field(default_factory=dict)
    runs: list[Event] = field(default_factory=list)
    answer: Event | None = None

    def __post_init__(self) -> None:
        for event in self.events:
            if event.kind == "prompt":
                self.prompts.append(event)
            elif event.kind == "edit" and event.file_path is not None:
                self.edits.setdefault(event.file_path, []).append(event)
            elif event.kind in ("command", "error"):
                self.runs.append(event)
            elif event.kind == "answer":
                self.answer = event

    @property
    def failure(self) -> Event | None:
        """What failed last."""
        return next((run for run in reversed(self.runs) if run.kind == "error"), None)


def project_digest(events: Iterable[Event], *, now_ms: int, device: str) -> Context:
    """What was worked on last, session by session, of events of one project in any order.

    Empty where no session is among them. `device` is this one, which is not named.
    """
    sessions: dict[tuple[str, str], list[Event]] = {}
    succeeded: dict[str, int] = {}
    for event in sorted(events, key=_moment):
        if event.session is not None:
            sessions.setdefault((event.device, event.session), []).append(event)
        if event.kind == "command":
            succeeded[_command(event)] = event.timestamp
    newest = sorted(sessions.values(), key=lambda one: _moment(one[-1]), reverse=True)
    left = DIGEST_CHARACTERS_MAX - _characters(PROJECT_OPENING + CLOSING)
    chosen: list[_Line] = []
    told = ((work, list(_of_session(work, succeeded))) for work in map(_Work, newest))
    for work, lines in islice((one for one in told if one[1]), SESSIONS_MAX):
        heading = _heading(work, now_ms, device)
        fitting = _fitting([heading, *lines], left)
        if len(fitting) < 2 or fitting[0] is not heading:
            break
        chosen += fitting
        left -= sum(_characters(line.text) for line in fitting)
    return _digest(PROJECT_OPENING, chosen)


def session_digest(events: Iterable[Event]) -> Context:
    """What a session did, of its events in any order: what was asked, edited, run and answered."""
    work = _Work(sorted(events, key=_moment))
    succeeded = {_command(run): run.timestamp for run in work.runs if run.kind == "command"}
    lines = [
        *_asked(work.prompts),
        *_edited(work, FILES_MAX * 2, one_line=False),
        *_ran(work.runs),
        *_failed(work, succeeded),
        *_answered(work),
    ]
    left = DIGEST_CHARACTERS_MAX - _characters(SESSION_OPENING + CLOSING)
    return _digest(SESSION_OPENING, _fitting(lines, left))


def _digest(opening: str, lines: Sequence[_Line]) -> Context:
    if not lines:
        return Context()
    text = "".join((opening, *(line.text for line in lines), CLOSING))
    ids = tuple(dict.fromkeys(one for line in lines for one in line.ids))
    return Context(text, ids, size_of(text).tokens)


def _fitting(lines: Sequence[_Line], characters: int) -> list[_Line]:
    """The most urgent lines that fit, in their order."""
    chosen: set[int] = set()
    for at in sorted(range(len(lines)), key=lambda at: -lines[at].urgency):
        size = _characters(lines[at].text)
        if size <= characters:
            chosen.add(at)
            characters -= size
    return [line for at, line in enumerate(lines) if at in chosen]


def _heading(work: _Work, now_ms: int, device: str) -> _Line:
    last = work.events[-1]
    text = f"\nSession {age(now_ms - last.timestamp)}"
    if last.tool is not None:
        text += f", by `{clean_label(last.tool, LABEL_CHARACTERS_MAX)}`"
    if last.device != device:
        text += f", on device {last.device[:4]}"
    if len(work.prompts) > 1:
        text += f", {len(work.prompts)} prompts"
    return _Line(f"{text}\n", [], 100)


def _of_session(work: _Work, succeeded: dict[str, int]) -> Iterator[_Line]:
    if work.prompts:
        first = work.prompts[0]
        text = clean_start(first.snippet, PROMPT_CHARACTERS)
        yield _Line(f"- first asked: `{text}`\n", [first.id], 90)
    elif not work.edits:
        yield from _ran(work.runs[-1:])
    yield from _edited(work, FILES_MAX, one_line=True)
    yield from _failed(work, succeeded)
    yield from _answered(work)


def _asked(prompts: Sequence[Event]) -> Iterator[_Line]:
    """The last is the most urgent, then the first, then from the end on."""
    for number, prompt in enumerate(prompts):
        text = clean_start(prompt.snippet, PROMPT_CHARACTERS)
        from_end = len(prompts) - 1 - number
        urgency = 90 if from_end == 0 else 80 if number == 0 else max(0, 60 - 5 * from_end)
        yield _Line(f"- asked: `{text}`\n", [prompt.id], urgency)


def _edited(work: _Work, most: int, *, one_line: bool) -> Iterator[_Line]:
    """The files edited last, with the lines of each; of a session's own those edited first go first."""
    files = sorted(work.edits.items(), key=lambda one: _moment(one[1][-1]), reverse=True)
    told = [(f"`{_place(path, edits)}`", edits[-1].id) for path, edits in files[:most]]
    more = f" and {len(files) - most} more files" if len(files) > most else ""
    if one_line and told:
        text = ", ".join(place for place, _ in told)
        yield _Line(f"- edited: {text}{more}\n", [one for _, one in told], 75)
    elif told:
        for number, (place, one) in enumerate(reversed(told)):
            yield _Line(f"- edited: {place}\n", [one], 75 - 5 * (len(told) - 1 - number))
        if more:
            yield _Line(f"- edited:{more.removeprefix(' and')} before\n", [], 10)


def _ran(runs: Sequence[Event]) -> Iterator[_Line]:
    """Each command once, where it was run last, with how it ended."""
    last = {_command(run): run for run in runs}
    ordered = sorted(last.values(), key=_moment)
    for number, run in enumerate(ordered):
        outcome = "failed" if run.kind == "error" else "done"
        text = clean_start(_command(run), COMMAND_CHARACTERS)
        urgency = 55 - 5 * (len(ordered) - 1 - number)
        yield _Line(f"- ran, {outcome}: `{text}`\n", [run.id], max(0, urgency))


def _failed(work: _Work, succeeded: dict[str, int]) -> Iterator[_Line]:
    failure = work.failure
    if failure is None:
        return
    command, said = _command(failure), failure.snippet.strip().splitlines()[-1]
    text = f"- failed last: `{clean_start(command, COMMAND_CHARACTERS)}`"
    if said != command:
        text += f" with `{clean_start(said, LINE_CHARACTERS)}`"
    later = succeeded.get(command, -1) > failure.timestamp
    text += "; it worked later" if later else "; not seen to work since"
    yield _Line(f"{text}\n", [failure.id], 70 if not later else 50)


def _answered(work: _Work) -> Iterator[_Line]:
    if work.answer is not None:
        first = work.answer.snippet.strip().partition("\n")[0]
        text = clean_start(first, PROMPT_CHARACTERS)
        yield _Line(f"- last answered: `{text}`\n", [work.answer.id], 65)


def _place(path: str, edits: Sequence[Event]) -> str:
    """A path and the lines that were edited last."""
    ranges = dict.fromkeys(edit.selection_range for edit in reversed(edits) if edit.selection_range)
    lines = [f"{a}" if a == b else f"{a}-{b}" for a, b in sorted(list(ranges)[:RANGES_MAX])]
    label = clean_label(path, PATH_CHARACTERS)
    return f"{label}:{','.join(lines)}" if lines else label


def _command(event: Event) -> str:
    """What was run: the first line of what is recorded of it."""
    return event.snippet.strip().partition("\n")[0]


def _characters(text: str) -> int:
    return size_of(text).characters


def _moment(event: Event) -> tuple[int, object]:
    return event.timestamp, event.order
