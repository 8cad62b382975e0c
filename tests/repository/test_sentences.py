"""No sentence is longer than 25 words, in documents, docstrings and comments alike."""

from __future__ import annotations

from collections.abc import Iterator

from tests.repository.sentences import comments, docstrings, sentences, words
from tests.repository.source_tree import ROOT, Module, all_modules, make_module

WORDS_MAX = 25


def long_in_document(where: str, text: str) -> Iterator[str]:
    """Sentences of a document that are too long."""
    for one in sentences(text):
        if words(one) > WORDS_MAX:
            yield f"{where}: {words(one)} words: {one}"


def long_in_module(module: Module) -> Iterator[str]:
    """Sentences of a module's docstrings and comments that are too long."""
    for text in (*docstrings(module), *comments(module)):
        for one in sentences(text, colon_ends=True):
            if words(one) > WORDS_MAX:
                yield f"{module.where}: {words(one)} words: {one}"


def test_no_sentence_of_a_document_is_longer_than_25_words() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [
        one
        for path in documents
        for one in long_in_document(path.name, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_no_sentence_of_a_docstring_or_comment_is_longer_than_25_words() -> None:
    found = [one for module in all_modules() for one in long_in_module(module)]
    assert not found, "\n".join(found)


SHORT = "Word" + " word" * 24 + "."
LONG = "Word" + " word" * 25 + "."


def test_a_long_sentence_of_a_document_is_found_wherever_it_is() -> None:
    for text in (LONG, f"Short.\n\n- {LONG}\n- b", f"| a | {LONG} |\n|---|---|", f"(So. {LONG})"):
        assert len([*long_in_document("a.md", text)]) == 1
    semicolon = "Word" + " word" * 15 + "; word" + " word" * 15
    assert [*long_in_document("a.md", semicolon)]
    assert [*long_in_document("a.md", semicolon.replace(";", ":"))]


def test_a_long_sentence_of_a_docstring_is_found_also_after_an_assignment() -> None:
    for text in (
        f'"""{LONG}"""',
        f'def f():\n    """A.\n\n    {LONG}\n    """',
        f'x = 1\n"""{LONG}"""',
    ):
        assert len([*long_in_module(make_module("raftmail.mail.one", text))]) == 1


def test_a_long_sentence_of_a_comment_is_found_also_over_several_lines() -> None:
    half = "word " * 13
    for text in (f"# {LONG}", f"x = 1  # {LONG}", f"if x:\n    # {half}\n    # {half}\n    y = 1"):
        assert len([*long_in_module(make_module("raftmail.mail.one", text))]) == 1


def test_what_is_no_prose_and_what_is_several_sentences_is_not_counted_as_one() -> None:
    half = "word " * 13
    for text in (
        SHORT,
        f"{SHORT} {SHORT}",
        f"Is it? {SHORT}",
        f"```\n{LONG}\n```",
        f"Short.\n\n    {LONG}\n",
        f"So `{half}{half}` is.",
        f"So [it]({'a/' * 40}) is: \n\n- {half}\n- {half}",
        f"| {half} | {half} |",
        f"{half}\n\n{half}",
    ):
        assert not [*long_in_document("a.md", text)], text
    apart = f"x = 1  # {half}\ny = 2  # {half}\n\n# {half}\n\n# {half}: {half}"
    assert not [*long_in_module(make_module("raftmail.mail.one", apart))]
