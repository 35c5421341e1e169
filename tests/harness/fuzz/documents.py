"""Files that are no configuration, and command lines that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import yaml
from hypothesis import strategies as st

from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import SPRUNG, Case

__all__ = ["command_lines", "documents"]

# The trainer's limits first, so that what is cut off later does not make a long run.
_DEMO = yaml.safe_dump({"trainer": bases()["simclr"]["trainer"]} | bases()["simclr"], sort_keys=False)

_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"   \n\n",
    "a comment": b"# nothing\n",
    "null": b"null\n",
    "a list": b"- 1\n- 2\n",
    "a number": b"3\n",
    "a tab": b"model:\n\tclass_path: SimCLR\n",
    "random bytes": bytes(range(256)) * 3,
    "zero bytes": b"\x00" * 400,
    "a BOM": b"\xef\xbb\xbf" + _DEMO.encode(),
    "UTF-16": _DEMO.encode("utf-16"),
    "UTF-32": _DEMO.encode("utf-32"),
    "Latin-1": b"model: \xe9\n",
    "a duplicate key": _DEMO.encode() + b"\ntrainer: {max_steps: 1}\n",
    "a cycle of anchors": b"model: &a\n  class_path: SimCLR\n  init_args: *a\n",
    "a cycle in a list": b"model: &a [*a]\n",
    "a cycle at the root": b"&a\nmodel: *a\n",
    "a cycle in data": _DEMO.encode() + b"\nmetrics: &m\n  every_n_steps: *m\n",
    "an alias bomb": b"\n".join(
        [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9)]
    ),
    "a bomb in the model": b"\n".join(
        [b"x0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [b"x%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9)]
        + [b"model: *a8"]
    ),
    "deep lists": b"model: " + b"[" * 3000 + b"]" * 3000,
    "deep mappings": b"model: " + b"{a: " * 3000 + b"1" + b"}" * 3000,
    "deep indents": b"".join(b" " * i + b"a:\n" for i in range(1500)),
    "an object tag": f"model: !!python/object/apply:os.system ['touch {SPRUNG}']\n".encode(),
    "an unknown tag": b"model: !thing {a: 1}\n",
    "two documents": b"model: SimCLR\n---\nmodel: MoCo\n",
    "a merge key": b"a: &a {class_path: SimCLR}\nmodel: {<<: *a}\n",
    "a merge of a number": b"model: {<<: 3}\n",
    "an unknown alias": b"model: *nothing\n",
    "keys that are no text": b"1: 2\nnull: 3\ntrue: 4\n[1, 2]: 5\n",
    "a key that is a mapping": b"? {a: 1}\n: 2\n",
    "a date": b"model: 2020-99-99\n",
    "a huge number": b"seed_everything: " + b"9" * 5000 + b"\n",
    "a huge exponent": b"trainer: {max_epochs: 1e999999}\n",
    "sexagesimal": b"trainer: {max_epochs: 1:30:00}\n",
    "binary": b"model: !!binary aGVsbG8=\n",
    "a set": b"model: !!set {a, b}\n",
    "a colon": b": \n",
    "an open quote": b'model: "SimCLR\n',
    "a control character": b"model: \x07\n",
    "a lone surrogate": b'model: "\\ud800"\n',
    "carriage returns": _DEMO.replace("\n", "\r\n").encode(),
    "JSON": b'{"model": {"class_path": "SimCLR"}}',
    "a dotted section": b"model.loss.temperature: 3\n",
    "an empty key": b"'': 1\n",
    "sections of null": b"model: null\ndata: null\ntrainer: null\nmetrics: null\n",
    "trainer of a list": _DEMO.encode() + b"\nscores: []\n",
    "a config key": b"config: other.yaml\n",
    "a class for the whole": b"class_path: SimCLR\n",
}

_RUN = ("--run", "run")


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.yaml").write_bytes(content) and None


@st.composite
def documents(draw: Callable) -> Case:
    """A configuration file that is none; now and then as an overlay of a good one, or cut at some byte."""
    way = draw(st.sampled_from(["text", "text", "text", "cut", "flipped", "place"]))
    if way == "place":
        return draw(st.sampled_from(_PLACES))
    if way == "text":
        name = draw(st.sampled_from(sorted(_TEXTS)))
        over = draw(st.booleans())
        words = ("--config", "good.yaml", "--config", "config.yaml") if over else ("--config", "config.yaml")

        def prepare(folder: Path) -> None:
            (folder / "config.yaml").write_bytes(_TEXTS[name])
            (folder / "good.yaml").write_text(_DEMO)

        return Case("document", f"{name}{' over a good one' if over else ''}", ("pretrain", *words, *_RUN), prepare)
    content = bytearray(_DEMO.encode())
    place = draw(st.integers(0, len(content) - 1))
    if way == "cut":
        content = content[:place]
    else:
        content[place] = draw(st.integers(0, 255))
    what = f"{way} at byte {place}" + (f" to {content[place]}" if way == "flipped" else "")
    return Case("document", what, ("pretrain", "--config", "config.yaml", *_RUN), _write(bytes(content)))


def _folder(folder: Path) -> None:
    (folder / "config.yaml").mkdir()


def _closed(folder: Path) -> None:
    (folder / "config.yaml").write_text(_DEMO)
    (folder / "config.yaml").chmod(0)


def _loop(folder: Path) -> None:
    (folder / "config.yaml").symlink_to("config.yaml")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "config.yaml")


def _in_use(folder: Path) -> None:
    _write(_DEMO.encode())(folder)
    (folder / "run").mkdir()
    (folder / "run/precious.txt").write_text("kept")


def _file_in_the_way(folder: Path) -> None:
    _write(_DEMO.encode())(folder)
    (folder / "run").write_text("kept")


_CONFIG = ("pretrain", "--config", "config.yaml", *_RUN)
_PLACES = [
    Case("document", "a folder", _CONFIG, _folder),
    Case("document", "no file", _CONFIG),
    Case("document", "no permission", _CONFIG, _closed),
    Case("document", "a link to itself", _CONFIG, _loop),
    Case("document", "a pipe nobody writes", _CONFIG, _pipe, seconds=15),
    Case("document", "/dev/null", ("pretrain", "--config", "/dev/null", *_RUN)),
    Case("document", "/dev/zero", ("pretrain", "--config", "/dev/zero", *_RUN), seconds=15),
    Case("document", "a run folder in use", _CONFIG, _in_use),
    Case("document", "a file where the run goes", _CONFIG, _file_in_the_way),
    Case("document", "a run below a file", (*_CONFIG[:3], "--run", "config.yaml/run"), _write(_DEMO.encode())),
    Case("document", "a run in /proc", (*_CONFIG[:3], "--run", "/proc/run"), _write(_DEMO.encode())),
    Case("document", "a run with a long name", (*_CONFIG[:3], "--run", "x" * 300), _write(_DEMO.encode())),
    Case("document", "a run with a zero byte", (*_CONFIG[:3], "--run", "a\0b"), _write(_DEMO.encode())),
]

_WORDS = [
    *("", " ", "-", "--", "---", "--=", "--a", "--model", "--model.", "--.model", "--model..loss", "--model.loss="),
    *("=", "x", "SimCLR", "é", "\U0001f600", "a\0b", "\udcff", "--config", "config.yaml", "--run", "--resume", "run"),
    *("--help", "-h", "--version", "--model.help", "SimCLR", "--print_config", "--data.batch_size", "8", "-1", "nan"),
    *("--trainer.max_steps", "1", "--model.loss.temperature", "0.5", "--model.class_path", "--model.init_args"),
    *("{", "[1", "'", "{a: &a *a}", "!!python/name:os.system", "--neighbours", "--json", "--output", "/", "."),
    *("--weights", "--backbone", "--data", "--fraction", "--per-class", "--seeds", "--finetune", "--device", "cuda"),
    *("--port", "99999", "--threshold", "1e999", "--epochs", "--flip", "../..", "--temperature", "--seed_everything"),
]
_COMMANDS = ["pretrain", "pretrain", "pretrain", "probe", "knn", "duplicates", "report", "doctor", "export", "demo"]


@st.composite
def command_lines(draw: Callable) -> Case:
    """Words in any order; no command that serves, since a good line would wait for ever."""
    command = draw(st.sampled_from([*_COMMANDS, "", "pretrian", "é", "--config", "contrast.cli"]))
    words = draw(st.lists(st.sampled_from(_WORDS), max_size=6))
    if command == "pretrain":
        words = ["--config", "config.yaml", *_RUN, *words]
    if command == "demo":
        words = [*words, "--surprise"]
    text = draw(st.text(max_size=4)) if draw(st.integers(0, 9)) == 0 else None
    words = words if text is None else [*words, text]
    return Case("command line", "words", (command, *words), _write(_DEMO.encode()))
