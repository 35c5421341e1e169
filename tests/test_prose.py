"""Prose rules that a machine can check: patterns that docstrings, comments, messages and docs must not contain."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Pattern, replacement, and an example that the pattern must find. docs/architecture.md lists them for readers.
PATTERNS = (
    (r"\bmend(s|ed|ing)?\b", "fix", "remove or mend the file"),
    (r"\banew\b", "again", "the next start packs it anew"),
    (
        r"\bso many\b(?!( \w+){0,2} (that|as)\b)|\bso-manieth\b",
        "a number or its name, for example k",
        "or so many labels",
    ),
    (r"\b(is|are|was|were) to be\b", "must be, or: will be", "the loss is to be finite"),
    (
        r"(?<!\bthere )\b(is|are|was|were) no "
        r"(?!more\b|less\b|(larg|small|bett|long|high|low|great|old|new|short|wid|fast|slow)er\b)(?=\w)",
        "is not a, or: invalid",
        "'x' is no number",
    ),
    (r"(?:^|[.;:] )(that|those) of\b", "the noun in place of the pronoun", "Loss. That of the batch is a mean."),
    (r"\bas by\b", "a noun and a verb", "the same, as by who looks at the pairs"),
    (r"\b(wherein|whereof|whence|thereof|whosoever|whoever)\b", "a plain relative clause", "a copy thereof"),
    (r"\bwhat (it|they) (is|are) (by|of)\b", "the noun", "the class, or what it is by"),
    (r"\b(is|are|was|were|be|been) looked at\b", "examined, checked or read", "512 samples are looked at"),
    (r"\b(one|two|three|\d+) an? (sample|class|channel|query|key|epoch|image|seed)\b", "per", "give one a sample"),
    (r"\bwithout a word\b", "without a message", "the process is gone without a word"),
    (r"\bstands? beside\b", "is next to", "'loss' stands beside init_args"),
    (r"\ball (it|they) (has|have|had)\b", "the noun", "it saved all it had"),
    (r"\bamong its like\b", "of the same kind", "each ranked among its like"),
)
_COMPILED = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice, _ in PATTERNS]
# Files with hits when the check was added; a file leaves this list when its text is rewritten.
_CODE = re.compile(r"``[^`]*``|`[^`]*`")
_FENCE = re.compile(r"^(```|~~~)")


def texts_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, messages (strings with a space) and comments of a Python file, each with its first line.

    Args:
        source: the text of the file.

    Yields:
        Line number and text. Values in f-strings are replaced by ``…``. Consecutive comment lines are one text.
    """
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inside -= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value if " " in node.value.strip() else ""
    start, lines, last = 0, [], -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and lines:
                yield start, " ".join(lines)
                lines = []
            start = start if lines else token.start[0]
            lines.append(token.string.lstrip("# "))
            last = token.start[0]
    if lines:
        yield start, " ".join(lines)


def texts_of_markdown(source: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items, headings and table rows of a Markdown page, without code blocks.

    Args:
        source: the text of the page.

    Yields:
        Line number and text.
    """
    fenced, start, lines = False, 0, []
    for number, line in enumerate(source.splitlines(), 1):
        fence = bool(_FENCE.match(line.strip()))
        ends = fence or fenced or not line.strip() or line.startswith(("    ", "#", "|", "> ", "- "))
        if ends and lines:
            yield start, " ".join(lines)
            lines = []
        if fence:
            fenced = not fenced
        elif not fenced and line.strip() and not line.startswith("    "):
            start = start if lines else number
            lines.append(line.strip())
    if lines:
        yield start, " ".join(lines)


def problems(texts: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Line and message of each forbidden pattern; code in backticks is not prose."""
    found = []
    for line, text in texts:
        prose = " ".join(_CODE.sub("code", text).split())
        for pattern, advice in _COMPILED:
            found += [(line, f"{match[0].strip()!r}: write {advice}") for match in pattern.finditer(prose)]
    return found


def _checked_files() -> list[Path]:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    return sorted([*(ROOT / "contrast").rglob("*.py"), *pages])


def test_prose_of_code_and_docs() -> None:
    found = []
    for file in _checked_files():
        texts = texts_of_python if file.suffix == ".py" else texts_of_markdown
        found += [f"{file.relative_to(ROOT)}:{line}: {what}" for line, what in problems(texts(file.read_text()))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("pattern", "advice", "example"), PATTERNS)
def test_each_pattern_finds_its_example(pattern: str, advice: str, example: str) -> None:
    source = f'def f(x):\n    """A docstring."""\n    # {example}\n    raise ValueError(f"{{x}} {example}")\n'
    found = problems(texts_of_python(source))
    assert [line for line, what in found if what.endswith(f": write {advice}")] == [4, 3], found
    assert problems(texts_of_markdown(f"# A page\n\n- {example}\n"))
    assert not problems(texts_of_markdown(f"# A page\n\n```\n{example}\n```\n\nand `{example}`\n"))


def test_plain_sentences_pass() -> None:
    for sentence in (
        "There is no file 'x': correct `path`.",
        "The rate is no longer scaled, and is no larger than 1.",
        "It has so many rows that they are thinned.",
        "Give one per sample.",
    ):
        assert not problems(iter([(1, sentence)])), sentence
