"""Sentences of documents, docstrings and comments, and how many words each has.

A sentence ends with a full stop, a question mark or an exclamation mark. It also ends with its
paragraph, list item or table cell, and so with the colon before a list. A semicolon ends none. In
docstrings and comments any colon ends one, since lists stand in the line there.

A word is what has a letter or a digit between blanks. A code span is one word. Fenced or indented
blocks of code, comments of HTML and targets of links have none.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

from tests.repository.source_tree import Module, nodes_of

_NOT_PROSE = re.compile(r"^ *(```|~~~).*?^ *\1 *$|<!--.*?-->", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*(?:\n|\Z)|\n(?= {4}))+")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_BLOCK = re.compile(r"\n[ >]*(?:\n|(?=(?:[-*+]|\d+[.)]|#+|\|) ))|(?<=\|)\n|^#+ .*$", re.MULTILINE)
_CELL = re.compile(r"\s\||\|\s")
_END = re.compile(r"(?<![\s(]e\.g)(?<![\s(]i\.e)(?<=[.!?])[\"')*_]*\s+")
_END_OR_COLON = re.compile(_END.pattern + r"|(?<=:)\s+")
_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''(?:\\.|[^\\])*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'"
    r"|#[^\n]*",
    re.DOTALL,
)
_WORD = re.compile(r"\w")


def sentences(text: str, *, colon_ends: bool = False) -> Iterator[str]:
    """The sentences of a text in Markdown, each on one line."""
    end = _END_OR_COLON if colon_ends else _END
    text = _INDENTED.sub("\n", _NOT_PROSE.sub("\n\n", text))
    text = _LINK.sub(r"\1", _CODE.sub("CODE", text))
    for block in _BLOCK.split(text):
        for cell in _CELL.split(block) if block.lstrip().startswith("|") else [block]:
            yield from end.split(" ".join(cell.split()))


def words(sentence: str) -> int:
    """How many words a sentence has."""
    return sum(1 for one in sentence.split() if _WORD.search(one))


def docstrings(module: Module) -> Iterator[str]:
    """A module's docstrings, also those of its names, which follow an assignment."""
    for node in nodes_of(module):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else ():
            value = one.value if isinstance(one, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield inspect.cleandoc(value.value)


def comments(module: Module) -> Iterator[str]:
    """A module's comments. Lines below one another are one comment."""
    text = module.text
    found: list[str] = []
    follows = -1
    for one in _STRING_OR_COMMENT.finditer(text):
        if not one[0].startswith("#"):
            continue
        begin = text.rfind("\n", 0, one.start()) + 1
        stands_alone = not text[begin : one.start()].strip()
        line = one[0].lstrip("#").removeprefix(" ")
        if begin == follows and stands_alone:
            found[-1] += "\n" + line
        else:
            found.append(line)
        follows = one.end() + 1
    yield from found
