from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.tokens import TERM_CHARACTERS_MAX, query_terms, terms


def test_an_identifier_counts_whole_and_by_its_parts() -> None:
    assert terms("loadUserName") == ["loadusernam", "load", "user", "name"]


def test_parts_that_are_function_words_count_only_in_the_whole() -> None:
    assert terms("get_all_users") == ["getallus", "user"]


@pytest.mark.parametrize("spelling", ["parseHttpHeader", "parse_http_header", "ParseHTTPHeader"])
def test_camel_and_snake_spellings_of_a_name_share_all_terms(spelling: str) -> None:
    assert terms(spelling) == ["parsehttphead", "pars", "http", "header"]


def test_acronyms_and_digits_end_a_part() -> None:
    assert terms("HTTPServer2") == ["httpserver2", "http", "server"]
    assert terms("sha256") == ["sha256", "sha", "256"]


def test_paths_split_at_separators() -> None:
    assert terms("app/models/user-profile.test.tsx") == [
        "app",
        "model",
        "user",
        "profil",
        "test",
        "tsx",
    ]


def test_inflections_of_a_word_meet_in_one_stem() -> None:
    assert set(terms("connect connected connecting connections")) == {"connect"}


def test_function_words_are_dropped_but_not_keywords_of_code() -> None:
    assert terms("the name of a user") == ["name", "user"]
    assert terms("while not done") == ["while", "not"]


def test_a_query_drops_function_words_even_if_they_are_keywords() -> None:
    assert query_terms("add support for the import of users") == [
        "add",
        "support",
        "import",
        "user",
    ]


def test_a_query_of_function_words_alone_keeps_those_that_are_indexed() -> None:
    assert query_terms("while not") == ["while", "not"]
    assert query_terms("the of") == []


def test_a_query_names_each_term_once() -> None:
    assert query_terms("user users userName") == ["user", "usernam", "name"]


def test_text_without_spaces_becomes_bigrams() -> None:
    assert terms("検索結果") == ["検索", "索結", "結果"]
    assert terms("中") == ["中"]
    assert terms("max値を返す2") == ["max", "値を", "を返", "返す", "2"]


def test_compatibility_forms_are_folded() -> None:
    assert terms("ﬁle ＡＢＣ") == ["file", "abc"]


def test_letters_beyond_ascii_split_by_case_too() -> None:
    assert terms("größeÄndern") == ["grösseändern", "grösse", "ändern"]


def test_a_word_too_long_to_be_one_is_dropped() -> None:
    assert terms("a" * (TERM_CHARACTERS_MAX + 1) + " kept") == ["kept"]


def test_a_digest_is_one_term() -> None:
    assert terms("0a1b2c3d4e5f60718293") == ["0a1b2c3d4e5f60718293"]


@given(st.text())
def test_any_text_gives_terms_that_a_query_for_it_finds(text: str) -> None:
    found = terms(text)
    assert all(found)
    assert set(query_terms(text)) <= set(found)


@given(st.text(alphabet="aB1_ .é中"))
def test_the_terms_of_a_text_are_those_of_its_lines(text: str) -> None:
    assert terms(f"{text}\n{text}") == terms(text) * 2
