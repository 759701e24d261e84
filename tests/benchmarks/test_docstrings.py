from __future__ import annotations

import json
from email.message import EmailMessage
from pathlib import Path

import pytest

from bench import docstrings
from bench.docstrings import chosen, event_of, first_sentence, is_query, measure, queries_of
from bench.functions import Function, functions, is_permissive, of_file, packages
from bench.grading import BASELINES
from support.hashing_encoder import HashingEncoder

_MODULE = '''
import os

def plain(a):
    return a

def read_text(path):
    """Read the whole file as decoded text. Then more.

    And more.
    """
    with open(path) as file:
        return file.read()

class Box:
    def weigh(self):
        """How heavy the box is."""
        total = 0
        return total + 1

    def undone(self):
        """Somebody should do this one day."""
        raise NotImplementedError("not yet")

    def __repr__(self):
        """What is printed of a box."""
        first = "box"
        return first

    @property
    def label(self):
        """What is written on the box."""
        def inner():
            """Nobody asks for this one."""
            x = 1
            return x
        return inner()

    def short(self):
        """Two lines are too few."""
        return 1

    def one_line(self): "No line of its own."; x = 1; return x

if os.name:
    def test_it():
        """Not a thing that is asked for."""
        assert 1
        assert 2
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "package"
    (made / "tests").mkdir(parents=True)
    (made / "module.py").write_text(_MODULE)
    (made / "tests" / "other.py").write_text(_MODULE.replace("box", "jar"))
    (made / "copy.py").write_text(_MODULE.replace("    ", "  "))
    (made / "broken.py").write_text("def f(:\n")
    (made / "latin.py").write_bytes(b'x = "\xe9"\n')
    topics = ["socket timeout", "header parser", "cookie policy", "retry budget", "gzip decoder"]
    for number in range(40):
        topic = topics[number % 5]
        (made / f"m{number}.py").write_text(
            f'def handle(a):\n    """Handle the {topic} of case{number}."""\n'
            f"    {topic.replace(' ', '_')} = a\n    case{number} = 1\n    return a\n"
        )
    return made


def test_a_function_is_what_follows_the_rules_without_its_docstring(root: Path) -> None:
    found = of_file(root / "module.py", root)
    assert [function.name for function in found] == ["read_text", "weigh", "label"]
    read_text, _, label = found
    assert (read_text.path, read_text.first, read_text.last) == ("package/module.py", 7, 13)
    assert read_text.source == (
        "def read_text(path):\n    with open(path) as file:\n        return file.read()"
    )
    assert label.source.startswith("    @property\n    def label(self):\n        def inner():")
    assert "written" not in label.source
    assert of_file(root / "broken.py", root) == of_file(root / "latin.py", root) == []


def test_functions_are_drawn_by_the_seed_and_none_comes_twice(root: Path) -> None:
    everything = functions([root], 1000, 1)
    assert len(everything) == 43  # not those of the tests, nor the copies
    assert len({function.source for function in everything}) == 43
    some = functions([root], 10, 1)
    assert len(some) == 10
    assert some == functions([root], 10, 1) != functions([root], 10, 2)
    assert functions([], 10, 1) == []


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Read it. Then more.", "Read it"),
        ("Read\n    it all\n\nMore.", "Read it all"),
        ("Use :func:`~os.path.join` and ``x`` or *y*.", "Use os.path.join and x or y"),
        ("Twice 2*x, or x**2 ... or more.", "Twice 2*x, or x**2 ... or more"),
        ("Names, e.g. those of :class:`Box <a.Box>`, sorted.", "Names, e.g. those of Box, sorted"),
        ("Read version 1.2 of it", "Read version 1.2 of it"),
        ("", ""),
    ],
)
def test_the_first_sentence_is_plain_text(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


@pytest.mark.parametrize(
    ("text", "name", "asks"),
    [
        ("Read the whole file as text", "read_text", True),
        ("What read_text does for all files", "read_text", False),
        ("The median of all the numbers", "median", True),
        ("Read it all", "read_text", False),
        ("See the other function for this", "f", False),
        ("Return a new instance of self", "f", False),
        ("Return a new list of open sockets", "f", True),
        ("join(a, b) -> both in one", "f", False),
        ("word " * 41, "f", False),
    ],
)
def test_a_query_says_what_a_function_does_and_not_its_name(
    text: str, name: str, asks: bool
) -> None:
    assert is_query(text, name) is asks


def _function(name: str, docstring: str, body: bytes) -> Function:
    return Function("p", f"{name}.py", 1, 3, name, f"def {name}():\n  x\n  y", docstring, body)


def test_answers_are_all_with_the_same_body_and_shared_sentences_ask_nothing() -> None:
    found = [
        _function("a", "Close all the idle sockets.", b"1"),
        _function("b", "Count what is left over.", b"2"),
        _function("c", "Say the same as others.", b"1"),
        _function("d", "say the same as others", b"3"),
    ]
    assert queries_of(found, 10, 1) == [
        ("Close all the idle sockets", frozenset({0, 2})),
        ("Count what is left over", frozenset({1})),
    ]
    assert len(queries_of(found, 1, 1)) == 1


def test_an_event_is_the_function_where_it_is() -> None:
    event = event_of(_function("a", "Close all the idle sockets.", b"1"), 7)
    assert (event.file_path, event.selection_range, event.sequence) == ("a.py", (1, 3), 7)
    assert event.snippet == "def a():\n  x\n  y"


def test_search_finds_what_chance_does_not(root: Path) -> None:
    found = measure(functions([root], 1000, 1), 30, 1, HashingEncoder(256))
    assert (found["functions"], found["queries"]) == (43, 30)
    assert list(found["baselines"]) == list(BASELINES)
    assert found["hit_at_10"] > 90 > 60 > found["baselines"]["random"]["hit_at_10"]


def test_the_result_is_one_json_object_or_a_table(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docstrings, "OnnxEncoder", HashingEncoder)
    monkeypatch.setattr(docstrings, "packages", lambda: [root])
    docstrings.main(["--packages", "package", "--functions", "20", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["functions"], found["packages"]) == (20, 1)
    assert found["intervals"]["hit_at_10"][0] <= found["hit_at_10"]
    docstrings.main(["--functions", "20"])
    assert capsys.readouterr().out.count("\n| ") == 6
    with pytest.raises(docstrings.NoFunctions):
        docstrings.main(["--without", "package"])


def test_packages_are_chosen_by_name(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b.py", tmp_path / "c3.1"]
    assert chosen(roots, []) == roots
    assert chosen(roots, ["b", "c3.1"]) == roots[1:]
    assert chosen(roots, [], ["b"]) == [roots[0], roots[2]]


def test_the_standard_library_is_a_package() -> None:
    roots = packages()
    assert any((root / "argparse.py").is_file() for root in roots)
    assert roots == sorted(roots, key=lambda root: (root.name, root))


@pytest.mark.parametrize(
    ("header", "value", "permissive"),
    [
        ("License-Expression", "Apache-2.0 OR BSD-2-Clause", True),
        ("License-Expression", "MIT AND MPL-2.0", False),
        ("License", "BSD 3-Clause License\nmore", True),
        ("Classifier", "License :: OSI Approved :: GNU General Public License (GPL)", False),
        ("Name", "MIT", False),
    ],
)
def test_only_permissive_licences_are_read(header: str, value: str, permissive: bool) -> None:
    metadata = EmailMessage()
    metadata[header] = value.replace("\n", " ") if header != "License" else "BSD 3-Clause License"
    assert is_permissive(metadata) is permissive  # type: ignore[arg-type]
