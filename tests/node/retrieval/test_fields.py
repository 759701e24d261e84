from __future__ import annotations

from localmem_node.retrieval.fields import (
    ENCODED_CHARACTERS_MAX,
    SYMBOLS_MAX,
    fields,
    symbols,
    text_for_encoding,
)
from support.events import event


def test_an_edit_has_its_path_its_symbols_and_its_snippet() -> None:
    found = fields(event(filePath="src/app.py", snippet="def run(x):\n    return x\n"))
    assert found == ("src/app.py", "run", "def run(x):\n    return x\n")


def test_a_hunk_header_becomes_the_header_and_leaves_the_snippet() -> None:
    bare = fields(event(snippet="@@ class Server:\n    def stop(self): ..."))
    full = fields(event(snippet="@@ -1,2 +3,4 @@ class Server:\n    def stop(self): ..."))
    assert bare == full
    assert bare[1:] == ("class Server: stop", "    def stop(self): ...")


def test_a_prompt_is_all_snippet() -> None:
    asked = event(kind="prompt", filePath=None, selectionRange=None, snippet="@@ class of errors")
    assert fields(asked) == ("", "", "@@ class of errors")
    assert text_for_encoding(asked) == "@@ class of errors"


def test_definitions_of_many_languages_are_symbols() -> None:
    code = """
    async def fetch(self):
    export default class Panel extends View {
    func (c *Context) Render(code int) {
    pub(crate) fn parse<T>(input: T) {
    export const load = async (id) => {
    public static final class Inner {
    def fetch(again):
    """
    assert symbols(code) == ["fetch", "Panel", "Render", "parse", "load", "Inner"]


def test_prose_and_calls_define_nothing() -> None:
    assert symbols("the class of things\nx = function_of(y)\nreturn const_value\n") == []


def test_a_snippet_of_many_definitions_gives_only_the_first() -> None:
    code = "".join(f"def name{number}(): ...\n" for number in range(SYMBOLS_MAX + 5))
    assert symbols(code) == [f"name{number}" for number in range(SYMBOLS_MAX)]


def test_the_end_of_the_path_the_symbols_and_the_snippet_are_embedded() -> None:
    located = event(filePath="/home/someone/project/src/net/http.py", snippet="def get(): ...")
    assert text_for_encoding(located) == "src/net/http.py\nget\ndef get(): ..."
    windows = event(filePath="C:\\work\\project\\src\\net\\http.py", snippet="x = 1")
    assert text_for_encoding(windows) == "src/net/http.py\nx = 1"


def test_what_is_embedded_is_capped() -> None:
    long = event(snippet="word " * 10_000)
    assert len(text_for_encoding(long)) == ENCODED_CHARACTERS_MAX
    assert text_for_encoding(long).startswith("src/main.py\nword")


def test_a_long_line_of_modifiers_takes_linear_time() -> None:
    assert symbols("export " * 9_000) == []
    assert symbols("def (" + "x" * 60_000) == []
