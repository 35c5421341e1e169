"""YAML and JSON that somebody else wrote: every key once, every size bounded, every pitfall of YAML 1.1 said."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.checked_text import parse_json, parse_yaml
from contrast.errors import InputError

keys = st.text("abcdxyz_", min_size=1, max_size=6)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=30
)


@settings(max_examples=150, deadline=None)
@given(values)
def test_what_is_written_is_read(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == value
    assert parse_json(json.dumps(value)) == value


@settings(max_examples=60, deadline=None)
@given(st.lists(keys, min_size=1, max_size=8, unique=True), st.data())
def test_a_key_that_is_written_twice(names: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(names) - 1))
    second = data.draw(st.integers(first + 1, len(names)))
    lines = [f"{name}: 1" for name in names]
    lines.insert(second, f'"{names[first]}": 2')
    indented = "top:\n  inner:\n" + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(InputError) as raised:
        parse_yaml(indented)
    assert str(raised.value) == (
        f"the key {names[first]!r} is written twice, in lines {first + 3} and {second + 3}: keep one"
    )
    with pytest.raises(InputError, match="written twice, in line 1"):
        parse_yaml(f"{{{', '.join(lines)}}}")


def test_merged_keys_may_be_overruled_once() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def doubling(depth: int, start: str) -> str:
    lines = [f"a0: &a0 {start}"]
    lines += [f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, depth)]
    return "\n".join(lines)


BOMBS = {
    "aliases": doubling(30, "[x, x]"),
    "aliases of few bytes": "\n".join(
        ["a0: &a0 [x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 7))]
    ),
    "aliases of a long text": f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]",
    "merged mappings": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 9)),
    "itself": "a: &a [1, *a]",
    "itself as a key's value": "a: &a {b: *a}",
    "deep lists": "a: " + "[" * 50_000,
    "deep mappings": "\n".join(" " * depth + "a:" for depth in range(900)),
    "many values": "a: [" + "1, " * 200_000 + "1]",
    "many keys": "\n".join(f"a{number}: 1" for number in range(60_000)),
    "a long integer": "a: " + "9" * 90_000,
    "a long hexadecimal": "a: 0x" + "f" * 90_000,
    "a long sexagesimal": "a: 1" + ":1" * 90_000,
    "a long text": "a: " + "x" * 2_000_000,
    "Python": "a: !!python/object/apply:os.system [touch harmed]",
    "another tag": "a: !strange 3",
    "not a date": "a: 2024-13-45",
    "control characters": "a: \x00",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_no_configuration_holds_is_refused_at_once(bomb: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InputError) as raised:
        parse_yaml(BOMBS[bomb])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert time.perf_counter() - begun < 60


@pytest.mark.parametrize("number", ["010", "0777", "-017", "00", "1:30", "20:30:40", "1:30.5"])
def test_numbers_that_mean_something_else_in_yaml(number: str) -> None:
    with pytest.raises(InputError, match=f"line 2: YAML reads {number} as .*: write a plain number, or quote it"):
        parse_yaml(f"a: 3\nb: {number}")
    assert parse_yaml(f"a: '{number}'") == {"a": number}


@pytest.mark.parametrize(("text", "value"), [("1_000", 1000), ("0x1f", 31), ("0", 0), ("0.5", 0.5), ("-3", -3)])
def test_numbers_that_mean_what_they_say(text: str, value: float) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_json_without_nan(text: str) -> None:
    assert parse_json(f'{{"a": [{text}]}}') == {"a": [None]}


@pytest.mark.parametrize("text", ["[" * 42 + "]" * 42, '{"a":' * 90 + "1" + "}" * 90, "[" * 100_000, "1" * 5000, "{"])
def test_json_that_no_run_writes(text: str) -> None:
    for given_ in (text, text.encode()):
        with pytest.raises(ValueError, match=r"deeply|Exceeds|Expecting"):
            parse_json(given_)


def test_json_may_be_wide() -> None:
    assert len(parse_json(json.dumps([[1]] * 1000))) == 1000
