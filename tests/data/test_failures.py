from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torchvision
from torch._utils import ExceptionWrapper

from contrast.data.sources import construction_error, dead_worker, worker_message
from contrast.errors import InputError


def raised_in_a_worker(cause: Exception | None, message: str, kind: type[InputError] = InputError) -> InputError:
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            raise kind(message) from cause
    except InputError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(kind) as again:
        wrapped.reraise()
    return again.value


@pytest.mark.parametrize(
    ("signal", "cause"),
    [
        ("Killed. ", "most likely as memory ran out: give fewer data.workers"),
        ("Bus error. It is possible that dataloader's workers are out of shared memory.", "/dev/shm is full"),
        ("Segmentation fault. ", "by a fault in a library that it used: give data.workers 0"),
    ],
)
def test_a_dead_worker_is_said_with_its_likely_cause(signal: str, cause: str) -> None:
    died = RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {signal}")
    outer = RuntimeError("a batch could not be read")
    outer.__cause__ = died
    for error in (died, outer):
        said = dead_worker(error)
        assert said.startswith("a loader worker was killed (process 7)")
        assert cause in said
    assert dead_worker(RuntimeError("another")) == ""


class OtherError(InputError):
    pass


@pytest.mark.parametrize(
    "message", ["a", "'x: y.png' is bad: mend it", "Caught in the act", "contrast.errors.InputError: twice"]
)
@pytest.mark.parametrize("cause", [None, OSError("a\nb"), InputError("inner")])
def test_the_message_comes_back(message: str, cause: Exception | None):
    assert worker_message(InputError(message)) == message
    assert worker_message(raised_in_a_worker(cause, message)) == message
    assert worker_message(raised_in_a_worker(cause, message, OtherError)) == message


def failure(make: Any, **arguments: Any) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # what torchvision raises is the question
        make(**arguments)
    line = str(construction_error(f"torchvision.datasets.{make.__name__}", arguments, raised.value))
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "STL10", "FashionMNIST", "SVHN", "Flowers102"])
def test_missing_files_are_one_line(tmp_path: Path, name: str):
    line = failure(getattr(torchvision.datasets, name), root=tmp_path)
    assert line.startswith(f"torchvision.datasets.{name}: files missing or damaged in {str(tmp_path)!r}: correct root")


def test_other_failures_keep_their_reason(tmp_path: Path):
    assert "No such file" in failure(torchvision.datasets.ImageFolder, root=str(tmp_path / "none"))
    assert "Couldn't find any class folder" in failure(torchvision.datasets.ImageFolder, root=str(tmp_path))
    line = failure(torchvision.datasets.STL10, root="data", split="tran")
    assert line.startswith("torchvision.datasets.STL10(root='data', split='tran'): Unknown value 'tran'")
    assert construction_error("a.B", {}, RuntimeError()).args == ("a.B(): RuntimeError",)
    assert "correct root" in str(construction_error("a.B", {}, RuntimeError("use download=True")))
