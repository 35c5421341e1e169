"""Values that do not belong where they are put."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import strategies as st

from contrast.commands.class_names import SLOTS, choices
from tests.harness.fuzz.case import SPRUNG

__all__ = ["anything", "class_names", "numbers", "traps", "whole_numbers"]

_INTEGERS = [0, -1, 1, 2, 3, -7, 2**15, 10**6, 2**31, 2**31 - 1, 2**53, 2**63, 2**63 - 1, -(2**63), 2**64, 10**40]
_REALS = [
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
    *(1e-320, 1e-30, 1e30, 0.1, 1.0000001, -0.1),
]
_TEXTS = [
    *("", " ", "null", "none", "True", "1", "1e3", "nan", "cpu", "auto", "a.b", ".", "..", "/", "../../outside"),
    *("~", "{run}", "{run}/../../outside", "$HOME", "é" * 3, "\U0001f600", "a\nb", "\x00", "\x1b[31m", "x" * 5000),
    *("!!python/object/apply:os.system [id]", "%s%n", "{0}", "torch", "contrast", "self", "class_path"),
]

_COMMAND = f"touch {SPRUNG}"

traps: list[dict[str, Any]] = [
    {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", SPRUNG]}},
    {"class_path": "subprocess.run", "init_args": {"args": ["touch", SPRUNG]}},
    {"class_path": "os.system", "init_args": {"command": _COMMAND}},
    {"class_path": "builtins.eval", "init_args": {"source": f"open({SPRUNG!r}, 'w')"}},
    {"class_path": "builtins.open", "init_args": {"file": SPRUNG, "mode": "w"}},
    {"class_path": "torch.load", "init_args": {"f": "trap.pt", "weights_only": False}},
    {"class_path": "pickle.load", "init_args": {"file": "trap.pt"}},
    {"class_path": "pathlib.Path", "init_args": {"args": ["x"]}},
    {"class_path": "pathlib.Path.touch", "init_args": {"self": SPRUNG}},
    {"class_path": "shutil.rmtree", "init_args": {"path": "."}},
    {"class_path": "importlib.import_module", "init_args": {"name": "trap"}},
    {"class_path": "trap.Trap"},
    {"class_path": "argparse.ArgumentParser"},
    {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 2}},
    {"class_path": "object"},
    {"class_path": "builtins.object"},
    {"class_path": "collections.OrderedDict"},
    {"class_path": "tempfile.TemporaryDirectory"},
    {"class_path": "lightning.Trainer"},
    {"class_path": "contrast.cli.main"},
]
"""Classes and functions that no slot takes; some would leave a file, if somebody called them."""

_ODD_CLASSES = [
    *("", ".", "..", "a.", ".a", "contrast", "contrast.losses", "contrast.nothing.Here", "no.such.Class", "DLC"),
    *("torch.optim.Adam", "torch.optim.SGD", "torch.utils.data.TensorDataset", "torch.utils.data.Dataset"),
    *("contrast.losses.Loss", "contrast.methods.ContrastiveMethod", "torchvision.datasets.FakeData", "a b", "1.2"),
    *("os", "sys.exit", "builtins.exit", "os.abort", "x" * 3000, "é.É", "__main__.Case", "lightning.Callback"),
]


def numbers() -> st.SearchStrategy[Any]:
    """Integers and reals at the ends of what there is."""
    return st.one_of(
        st.sampled_from(_INTEGERS), st.sampled_from(_REALS), st.integers(-5, 300), st.floats(-2, 2), st.floats()
    )


def whole_numbers() -> st.SearchStrategy[int]:
    """Integers alone."""
    return st.one_of(st.sampled_from(_INTEGERS), st.integers(-2, 100))


def class_names() -> st.SearchStrategy[str]:
    """Names of classes: this package's, of whatever slot, and others'."""
    ours = sorted({name for slot in SLOTS for name in choices(slot)})
    return st.one_of(st.sampled_from(ours), st.sampled_from(_ODD_CLASSES))


def anything() -> st.SearchStrategy[Any]:
    """A value of any type that YAML has, classes and traps among them."""
    plain = st.one_of(
        numbers(),
        st.sampled_from(_TEXTS),
        st.text(max_size=8),
        st.booleans(),
        st.none(),
        st.just(b"\xff\x00"),
        st.just(datetime.date(2020, 1, 1)),
    )
    lists = st.lists(plain, max_size=3)
    keys = st.one_of(st.text(max_size=5), st.integers(0, 3), st.none(), st.booleans())
    mappings = st.one_of(
        st.dictionaries(keys, plain, max_size=2),
        st.builds(lambda name: {"class_path": name}, class_names()),
        st.builds(lambda value: {"class_path": value}, plain),
        st.builds(lambda name, value: {"class_path": name, "init_args": value}, class_names(), plain),
        st.builds(lambda value: {"init_args": value}, plain),
    )
    nested = st.builds(_nested, st.integers(2, 60), st.booleans())
    return st.one_of(plain, plain, lists, mappings, st.sampled_from(traps), st.lists(mappings, max_size=2), nested)


def _nested(depth: int, mapping: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"init_args": value} if mapping else [value]
    return value
