"""Configurations that once ended in a traceback, a hang or a line that said nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from contrast.commands.configuration import require_plain
from contrast.errors import InputError, did_you_mean
from tests.fuzz.asking import refused, written

BOMB = "\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"seed_everything: " + b"9" * 5000, "a number of 5,000 characters"),
        (b"model: !!int x", "not YAML"),
        (b"model: !!timestamp x", "not YAML"),
        (b"model: !!bool x", "not YAML"),
        (b"model: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
        (b"model: \xe9", "not YAML"),
        (b"".join(b" " * n + b"a:\n" for n in range(200)), "nested too deeply"),
        (BOMB.encode(), "aliases repeat it too often"),
        (b"model: &a {class_path: SimCLR, init_args: *a}", "line 1: it contains itself through an alias"),
        (b"&a\nmodel: *a", "line 1: it contains itself through an alias"),
        (b"1: 2", "the key 1 is not a name"),
        (b"'': 2", "the key '' is not a name"),
        (b"model: {class_path: 3}", "class_path 3 is not a class"),
        (b"model: {class_path: ..}", "class_path '..' is not a class"),
        (b"model: {class_path: SimCLR, init_args: 3}", "init_args 3 is not a mapping"),
        (b"model: {init_args: 3}", "init_args 3 is not a mapping"),
        (b"data: {class_path: 2020-01-01}", "is not a class"),
        (b"metrics: 3", "metrics: 3 is not a section"),
        (b"model: {class_path: SimCLR, init_args: null, x: 1}", "'x' is next to class_path"),
        (b"model: {init_args: {}, loss: DCL}", "'loss' is next to"),
        (b"model: !!binary aGVsbG8=", "bytes b'hello'"),
        (b'model: "a\\0b"', "characters that are not allowed"),
        (b'model: "\\ud800"', "characters that are not allowed"),
        (b"trainer: {max_steps: 99999999999999999999999}", "an integer of 77 bits"),
        (b"trainer: {gradient_clip_val: 1.0e+125}", "outside the range of 32-bit floats"),
    ],
)
def test_files(text: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "over.yaml"
    file.write_bytes(text)
    files = ["--config", written(tmp_path), "--config", file]
    refused(capsys, ["pretrain", *files, "--run", tmp_path / "run"], words)
    assert not (tmp_path / "run").exists()


def test_a_pipe_that_nobody_writes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    refused(capsys, ["pretrain", "--config", tmp_path / "pipe.yaml"], "pipe.yaml", "not a regular file")


CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("simclr", {"metrics__every_n_steps": None}, "metrics.every_n_steps: null"),
    ("simclr", {"metrics": 0.0}, "metrics: 0.0 is not a section"),
    ("simclr", {"seed_everything": -7}, "seed_everything -7 is not between 0 and 4294967295"),
    ("simclr", {"seed_everything": 2**63 - 1}, "seed_everything 9223372036854775807"),
    ("mocov2", {"model__optimizer__momentum": -0.5}, "model.optimizer: Invalid momentum value: -0.5"),
    ("simclr", {"model__head": {"class_path": "collections.OrderedDict"}}, "collections.OrderedDict"),
    ("simclr", {"data__views": {"class_path": "collections.OrderedDict"}}, "collections.OrderedDict"),
    ("vicreg", {"model__head__layers": 2**53}, "memory"),
    ("look", {"data__views__size": 10**6}, "size is 1000000: give a number from 1 to 16384"),
    ("simclr", {"model__backbone__widths": [4, 10**12]}, "out of memory"),
]


@pytest.mark.parametrize(("base", "changes", "words"), CHANGES)
def test_values(
    base: str, changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, base, **changes)
    refused(capsys, ["pretrain", "--config", file, "--run", tmp_path / "run"], words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.class_path", "1"], "class_path 1 is not a class"),
        (["--model.loss={class_path: DCL, init_args: 3}"], "init_args 3 is not a mapping"),
        (["--bank=0"], "bank: 0 is not a section"),
        (["--run", "a\0b"], "is not UTF-8 text"),
        (["--run", "\udcff"], "is not UTF-8 text"),
        (["--run", "/proc/none"], "/proc/none"),
        (["--run", "x" * 300], "File name too long"),
        (["--run", "config.yaml/run"], "Not a directory"),
        (["--model.schedule", "x" * 5000], " … "),
    ],
)
def test_command_lines(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    before = sorted(tmp_path.iterdir())
    line = refused(capsys, ["pretrain", "--config", "config.yaml", "--run", "run", *words], said)
    assert len(line) < 1600
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_configuration_may_be_made_of() -> None:
    require_plain({"a": [1, -(2**63), 1e38, float("inf"), float("nan"), None, True, "é", {"class_path": "a.B"}]}, "it")
    for value in ({"a": object()}, {"a": 2**64}, {"a": -1e39}, [[["\0"]]]):
        with pytest.raises(InputError, match="it: "):
            require_plain(value, "it")


def test_what_is_no_name_has_a_hint_too() -> None:
    """A flag of `null`, say `--model.rate_scaling=null`, where a word is one of a few."""
    assert did_you_mean(None, ["linear", "sqrt"]) == "; known: linear, sqrt"
