"""How much does a coding tool ask for, and how long does it take, with a memory and without one?

The real `claude` and `codex`, each in an empty home, work through the same script twice: bare, and with
localmem installed by `localmem install`. The model is on loopback (`bench.scripted_model`).

The script: a small shop of MODULES modules. In earlier sessions the model wrote some of them, TAUGHT of
them, as hooks saw; the others were there before. Then, in new sessions of PROMPTS prompts each, it
is asked about a rule of a module. What it needs for the answer is one line of that module. If the line
stands in the request, it answers; if not, it first searches for the module, unless its path stands there,
then reads it, then answers. Half of the questions are about modules that no session ever touched.

What this can show: what the clients send for a given behaviour of a model, how often what is needed
is in the request already, and what hooks cost. What it cannot: whether a real model would notice the
line and be content with it, what it would have searched for, and what its own thinking takes; so no
part of this is a forecast of tokens or time saved by a user.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from bench.clients import BINARIES, Client, Name
from bench.daemons import PASSPHRASE, daemon, environment
from bench.report import print_json, print_progress, print_table
from bench.scripted_model import Action, Request, Say, ScriptedModel, Shell, Write
from localmem_node.git_process import git_environment

MODULES: Final = 12
TAUGHT: Final = 6
PROMPTS: Final = 2
"""Questions of one session."""

SEED: Final = 7

_NOUNS: Final = (
    "payment", "invoice", "basket", "parcel", "voucher", "refund", "supplier", "customer",
    "warehouse", "discount", "newsletter", "subscription",
)  # fmt: skip
_RULES: Final = (
    ("retry limit", "RETRY_LIMIT"), ("expiry in days", "EXPIRY_DAYS"), ("batch size", "BATCH_SIZE"),
    ("grace period in hours", "GRACE_HOURS"), ("rounding step", "ROUNDING_STEP"),
    ("page length", "PAGE_LENGTH"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the shop, and the line in it that a question is about."""

    path: str
    text: str
    noun: str
    rule: str
    line: str

    @property
    def lesson(self) -> str:
        """What the user asked for when it was written."""
        return f"Write the {self.noun} module; its {self.rule} has to be adjustable."

    @property
    def question(self) -> str:
        """What is asked later."""
        return f"Which {self.rule} do we use for a {self.noun}, and what depends on it?"


@dataclass(slots=True)
class Counts:
    """What one run of the script took."""

    requests: int = 0
    calls: int = 0
    sent_bytes: int = 0
    prompts: int = 0
    at_once: int = 0
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """For a table; `at_once`: prompts that were answered without a single call."""
        return {
            "prompts": self.prompts,
            "requests": self.requests,
            "calls": self.calls,
            "request_bytes": self.sent_bytes,
            "answered_at_once": self.at_once,
            "prompt_p50_s": round(median(self.seconds), 3),
        }


class Script:
    """What the model does; lessons first, then questions. `calls` counts its tool calls."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._lessons = {module.lesson: module for module in modules}
        self._questions = {module.question: module for module in modules}
        self.calls = 0

    def __call__(self, request: Request) -> Action:
        """The next action. Anything that is neither lesson nor question is only noted."""
        prompt = request.prompt.strip()
        if prompt in self._lessons:
            return self._counted(self._write(self._lessons[prompt], request))
        if prompt in self._questions:
            return self._counted(self._look(self._questions[prompt], request))
        return Say("Noted.")

    def _write(self, module: Module, request: Request) -> Action:
        if not request.results:
            return Write(module.path, module.text)
        return Say(f"{module.path} is written; {module.line} sets its {module.rule}.")

    def _look(self, module: Module, request: Request) -> Action:
        known = request.text
        if module.line in known:
            return Say(f"{module.line}, in {module.path}.")
        if module.path not in known:
            return Shell(f"grep -rlie {module.noun} --include=*.py .")
        return Shell(f"cat {module.path}")

    def _counted(self, action: Action) -> Action:
        self.calls += not isinstance(action, Say)
        return action


def shop(chance: np.random.Generator) -> list[Module]:
    """The modules: of one size, with one rule each, the lines of no two alike."""
    modules = []
    for number, noun in enumerate(_NOUNS[:MODULES]):
        rule, name = _RULES[number % len(_RULES)]
        line = f"{noun.upper()}_{name} = {int(chance.integers(10, 10_000))}"
        functions = [_function(noun, name, chance) for _ in range(8)]
        text = "\n\n".join([f'"""Everything about a {noun}."""', line, *functions]) + "\n"
        modules.append(Module(f"shop/{noun}s.py", text, noun, rule, line))
    return modules


def _function(noun: str, name: str, chance: np.random.Generator) -> str:
    verbs = ("load", "check", "merge", "send", "archive", "price", "count", "list")
    verb = verbs[int(chance.integers(len(verbs)))]
    number = int(chance.integers(100))
    return (
        f"\ndef {verb}_{noun}_{number}({noun}, store):\n"
        f'    """{verb.capitalize()} one {noun} within the limits of the shop."""\n'
        f"    if store.seen({noun}) > {noun.upper()}_{name}:\n"
        f"        raise ShopError('{noun} {number}')\n"
        f"    return store.{verb}({noun})"
    )


def measure(name: Name, modules: Sequence[Module], *, remember: bool) -> dict[str, Any]:
    """The questions of one client, with or without localmem. Raises ClientFailed."""
    script, taught = Script(modules), modules[:TAUGHT]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lm-")))
        folder = home / "work" / "shop-of-lessons"
        _checkout(folder, modules[TAUGHT:])
        model = stack.enter_context(ScriptedModel(script))
        memory = environment(home / "memory", **PASSPHRASE) if remember else {}
        client = Client(name, home, folder, model.url, _localmem_only(memory))
        client.prepare()
        if remember:
            stack.enter_context(installed(client, memory))
        for module in taught:
            client.ask(module.lesson)
        return _questions(client, model, script, modules).row()


def _questions(
    client: Client, model: ScriptedModel, script: Script, modules: Sequence[Module]
) -> Counts:
    counts = Counts()
    order = [*zip(modules[:TAUGHT], modules[TAUGHT:], strict=True)]
    for asked in order:  # a session each: one that was taught, one that was not
        for number, module in enumerate(asked):
            before, calls = len(model.requests), script.calls
            began = time.perf_counter()
            answer = client.ask(module.question, resume=number > 0)
            counts.seconds.append(time.perf_counter() - began)
            assert module.line in answer, answer
            sent = model.requests[before:]
            counts.prompts += 1
            counts.requests += len(sent)
            counts.sent_bytes += sum(request.size for request in sent)
            counts.calls += script.calls - calls
            counts.at_once += script.calls == calls
    return counts


@contextmanager
def installed(client: Client, memory: Mapping[str, str]) -> Iterator[None]:
    """localmem in the client's home, by the command that a user runs; undone and stopped afterwards."""
    with daemon(Path(memory["LOCALMEM_HOME"])):
        localmem = [sys.executable, "-P", "-m", "localmem_node.cli.main"]
        user = dict(memory) | client.environment
        subprocess.run(
            [*localmem, "install", client.name], env=user, check=True, capture_output=True
        )
        yield
        subprocess.run(
            [*localmem, "uninstall", client.name], env=user, check=True, capture_output=True
        )


def _localmem_only(memory: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in memory.items() if name.startswith(("LOCALMEM_", "PYTHON"))}


def _checkout(folder: Path, modules: Sequence[Module]) -> None:
    (folder / "shop").mkdir(parents=True)
    git = ["git", "-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    for module in modules:
        (folder / module.path).write_text(module.text)
    for arguments in (["init", "-q"], ["add", "--all"], ["commit", "-qm", "The shop so far"]):
        subprocess.run([*git, *arguments], cwd=folder, env=git_environment(), check=True)


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"clients": {NAME: {"bare", "localmem", "change"}}}."""
    parser = argparse.ArgumentParser(prog="python -m bench roundtrips", description=__doc__)
    parser.add_argument("--clients", default=",".join(BINARIES), help="with commas")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    asked = set(options.clients.split(","))
    names: list[Name] = [name for name in BINARIES if name in asked]
    modules = shop(np.random.default_rng(SEED))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        print_progress(f"{name}, bare …")
        bare = measure(name, modules, remember=False)
        print_progress(f"{name}, with localmem …")
        with_memory = measure(name, modules, remember=True)
        change = {
            key: round(100 * (with_memory[key] / bare[key] - 1), 1)
            for key in ("requests", "calls", "request_bytes", "prompt_p50_s")
        }
        found[name] = {"bare": bare, "localmem": with_memory, "change_percent": change}
    if options.json:
        print_json({"clients": found})
        return
    headings = ["client", "run", *next(iter(found.values()))["bare"]]
    rows = [
        [name, run, *(values[run].get(heading, "") for heading in headings[2:])]
        for name, values in found.items()
        for run in ("bare", "localmem", "change_percent")
    ]
    print_table(headings, rows)
