"""A received run folder or checkpoint names nothing that is imported, called, fetched or written outside of it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import random
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from contrast.cli import main
from contrast.commands import trust
from contrast.commands.building import resolve, run_parser
from contrast.commands.class_names import SLOTS, choices
from contrast.commands.completing import complete
from contrast.commands.configuration import Config
from contrast.commands.trust import allowed_class, receive
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from tests.fuzz.asking import refused, written
from tests.harness.fuzz.bases import bases

EVALUATIONS = (["export"], ["knn", "--neighbours", "5"], ["probe", "--seeds", "1"], ["duplicates"])
REFUSED = "not on the list"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of MoCo, to be copied before it is changed."""
    place = tmp_path_factory.mktemp("finished")
    assert main(["pretrain", "--config", str(written(place, "mocov2")), "--run", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of the finished run in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "run")
    return RunFolder(Path("run"))


def forge(run: RunFolder, path: str, value: Any) -> None:
    """Put a value into the stored configuration, in the checkpoint and in the folder: ``model.loss.objective``."""
    content = read_checkpoint(run.last_checkpoint)
    for config in (content["contrast"]["config"], stored := yaml.safe_load(run.config.read_text())):
        *names, last = path.split(".")
        holder = config
        for name in names:
            holder = holder[name]
            holder = holder.get("init_args", holder)
        holder[last] = value
    write_checkpoint(content, run.last_checkpoint)
    run.config.write_text(yaml.safe_dump(stored))


def resume(*more: str) -> list[str]:
    return ["pretrain", "--resume", "run", "--trainer.max_steps", "3", "--trainer.max_epochs", "3", *more]


# What is on the list.


def test_every_class_that_a_slot_takes_is_on_the_list() -> None:
    names = {name for slot in SLOTS for name in choices(slot)}
    assert {name for name in names if allowed_class(name) is None} == set()


@pytest.mark.parametrize("name", sorted(bases()))
def test_what_a_shipped_configuration_writes_is_received_unchanged(name: str) -> None:
    _, plain = resolve(run_parser(), complete(bases()[name]))
    assert receive(plain, "file") == plain


@pytest.mark.parametrize("logger", ["wandb", "tensorboard"])
def test_what_a_shipped_logger_writes_is_received_unchanged(logger: str) -> None:
    overlay = yaml.safe_load((Path("configs/logger") / f"{logger}.yaml").read_text())
    _, plain = resolve(run_parser(), complete({**bases()["simclr"], "trainer": overlay["trainer"]}))
    assert receive(plain, "file") == plain


def test_no_class_of_the_list_takes_a_function() -> None:
    """Each argument of a listed class is plain data, a class of the list, or must be left out."""
    listed = {*trust._own_classes().values(), *trust._outer_classes().values()}
    assert len(listed) > 100
    for each in listed:
        for name in inspect.signature(each.__init__).parameters:
            annotation = trust._annotation(each, name)
            if annotation is not None and not trust._is_plain(annotation):
                with pytest.raises(InputError, match=REFUSED):
                    trust._Checker("file")._arguments("x", each, {name: "sympy.sympify"}, None)


@pytest.mark.parametrize("name", ["LSUN", "LSUNClass", "ImageNet", "Cityscapes", "DatasetFolder", "VisionDataset"])
def test_data_sets_of_torchvision_that_are_not_on_the_list(name: str) -> None:
    """LSUN unpickles a file beside its data, ImageNet and Cityscapes unpack archives, the others take functions."""
    module = getattr(torchvision.datasets, name, torchvision.datasets.lsun).__module__
    for dotted in (f"torchvision.datasets.{name}", f"{module}.{name}"):
        assert allowed_class(dotted) is None
        source = {"class_path": dotted, "init_args": {"root": "x"}}
        with pytest.raises(InputError, match=REFUSED):
            receive({"data": {"class_path": "ImageData", "init_args": {"train": source}}}, "file")


def test_of_the_listed_data_sets_only_cifar_unpickles() -> None:
    """It compares the MD5 of its files first."""
    modules = {name: sys.modules[getattr(torchvision.datasets, name).__module__] for name in trust._TORCHVISION}
    unpickling = {name for name, module in modules.items() if "pickle.load(" in inspect.getsource(module)}
    assert unpickling == {"CIFAR10", "CIFAR100"}


# Every callable of every installed distribution.


_DEFINED = re.compile(rb"^(?:async def|def|class) ([A-Za-z_][A-Za-z_0-9]*)", re.MULTILINE)


@cache
def installed_names() -> tuple[str, ...]:
    """Dotted names of all functions, classes and `__main__` modules that are installed, out of their sources."""
    names: set[str] = set()
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or ():
            if file.suffix != ".py" or ".." in file.parts:
                continue
            module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
            names.add(module)
            with contextlib.suppress(OSError):
                found = _DEFINED.findall(Path(str(distribution.locate_file(file))).read_bytes())
                names.update(f"{module}.{name.decode()}" for name in found)
        names.update(each.value.replace(":", ".").split(" ")[0] for each in distribution.entry_points)
    names.update(
        f"{module}.{name}" for module in ("os", "subprocess", "builtins", "ctypes") for name in _public(module)
    )
    return tuple(sorted(name for name in names if all(part.isidentifier() for part in name.split("."))))


def _public(module: str) -> list[str]:
    return [name for name in dir(__import__(module)) if callable(getattr(sys.modules[module], name, None))]


def test_of_all_installed_callables_only_the_list_is_allowed() -> None:
    loaded = set(sys.modules)
    names = installed_names()
    allowed = {name: found for name in names if (found := allowed_class(name)) is not None}
    assert set(sys.modules) == loaded
    strange = {
        name
        for name, found in allowed.items()
        if not name.startswith(("contrast.", "torch.optim.", "torchvision.datasets.", "lightning.pytorch."))
        or not isinstance(found, type)
    }
    assert strange == set()
    mains = sum(name.endswith("__main__") for name in names)
    print(f"{len(names):,} names, {mains} of them __main__ modules, {len(allowed)} on the list")
    assert len(names) > 50_000
    assert mains > 20


SLOTS_OF_RUNS = (
    *("model", "model.backbone", "model.head", "model.loss", "model.loss.objective", "model.loss.temperature"),
    *("model.loss.transforms", "model.loss.weighting", "model.optimizer", "model.schedule", "model.bank"),
    *("data", "data.train", "data.test", "data.views"),
)
SLOTS_OF_TRAINERS = (
    *("trainer.logger", "trainer.callbacks", "trainer.strategy", "trainer.plugins", "trainer.profiler"),
    "scores.observers",
)
"""Slots that an evaluation does not read."""


def _as_written(name: str, number: int) -> Any:
    """A name as a configuration may hold it: bare, with arguments, in a list, or as an argument of a listed class."""
    forms: tuple[Any, ...] = (
        name,
        {"class_path": name},
        {"class_path": name, "init_args": {"x": 1}},
        [{"class_path": name}],
        {"class_path": "torchvision.datasets.ImageFolder", "init_args": {"root": ".", "loader": name}},
        {"class_path": "torchvision.datasets.MNIST", "init_args": {"root": ".", "transform": {"class_path": name}}},
    )
    return forms[number % len(forms)]


class Imports:
    """Records what is looked up to be imported while it lasts."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        self.names.add(name)

    def __enter__(self) -> Imports:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.meta_path.remove(self)


def _sample(count: int, seed: int) -> list[str]:
    strange = [name for name in installed_names() if allowed_class(name) is None]
    return random.Random(seed).sample(strange, count)


def _none_imported(commands: Iterator[tuple[list[str], str]], capsys: pytest.CaptureFixture[str]) -> int:
    count = 0
    with Imports() as imports:
        for command, name in commands:
            line = refused(capsys, command)
            assert REFUSED in line or "names" in line or "gives" in line, (name, line)
            tops = {name, name.rpartition(".")[0]}
            assert not tops & imports.names, (name, imports.names)
            count += 1
    return count


@pytest.mark.parametrize("slot", SLOTS_OF_RUNS)
@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_sampled_callables_in_a_checkpoint(
    slot: str, count: int, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_checkpoint(run.last_checkpoint)
    main(["export", "run"])  # imports what every export does
    config = whole["contrast"]["config"]

    def commands() -> Iterator[tuple[list[str], str]]:
        for number, name in enumerate(_sample(count, seed=len(slot))):
            changed = yaml.safe_load(yaml.safe_dump(config))
            _put(changed, slot, _as_written(name, number))
            write_checkpoint({**whole, "contrast": {**whole["contrast"], "config": changed}}, run.last_checkpoint)
            yield ["export", "run"], name

    assert _none_imported(commands(), capsys) == count


@pytest.mark.parametrize("slot", [*SLOTS_OF_RUNS, *SLOTS_OF_TRAINERS])
@pytest.mark.parametrize("count", [6, pytest.param(1000, marks=pytest.mark.slow)])
def test_sampled_callables_in_a_run_folder(
    slot: str, count: int, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(run.config.read_text())
    refused(capsys, ["pretrain", "--resume", "run", "--model.backbone", "Nothing"])  # imports what every start does

    def commands() -> Iterator[tuple[list[str], str]]:
        for number, name in enumerate(_sample(count, seed=1 + len(slot))):
            changed = yaml.safe_load(yaml.safe_dump(config))
            _put(changed, slot, _as_written(name, number))
            run.config.write_text(yaml.safe_dump(changed))
            yield resume(), name

    assert _none_imported(commands(), capsys) == count


def _put(config: Config, path: str, value: Any) -> None:
    *names, last = path.split(".")
    for name in names:
        config = config[name]
        config = config.get("init_args", config)
    config[last] = value


@settings(deadline=None)  # the first text reads the types of torchvision's classes
@given(st.text(min_size=1, max_size=30), st.sampled_from(["loader", "transform", "target_transform", "is_valid_file"]))
def test_no_text_is_a_function_of_a_data_set(text: str, argument: str) -> None:
    assume(allowed_class(text) is None)  # a class of the list is refused by its type, when it is built
    source = {"class_path": "torchvision.datasets.ImageFolder", "init_args": {"root": "x", argument: text}}
    with pytest.raises(InputError):
        receive({"data": {"class_path": "ImageData", "init_args": {"train": source}}}, "file")


HIDDEN: dict[str, Config] = {
    "in a mapping": {"model": {"class_path": "MoCo", "init_args": {"rates": {"head": {"class_path": "os.system"}}}}},
    "in a mapping of mappings": {"trainer": {"logger": {"a": {"b": {"class_path": "os.system"}}}}},
    "in a list of a mapping": {"trainer": {"plugins": {"a": [{"class_path": "os.system"}]}}},
    "in the seed": {"seed_everything": {"class_path": "os.system"}},
    "in a callback's section": {"online_knn": {"limit": {"class_path": "os.system"}}},
}


@pytest.mark.parametrize("place", HIDDEN)
def test_no_class_is_hidden_in_plain_data(place: str) -> None:
    with pytest.raises(InputError, match=REFUSED):
        receive(HIDDEN[place], "file")


# The input of the fault report, and its siblings.


@pytest.mark.parametrize("command", EVALUATIONS)
def test_a_file_name_is_not_evaluated_by_a_stored_loader(
    command: list[str], run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pics/0").mkdir(parents=True)
    Path('pics/0/__import__("os").system("id>PWNED")').write_text("")
    arguments = {"root": "pics", "loader": "sympy.sympify", "extensions": [")"]}
    for part in ("train", "test"):
        forge(run, f"data.{part}", {"class_path": "torchvision.datasets.DatasetFolder", "init_args": arguments})
    refused(capsys, [*command[:1], "run", *command[1:]], "data.train", "DatasetFolder", "--trust")
    assert not Path("PWNED").exists()


WRITING = [
    ("trainer.logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "elsewhere"}}),
    (
        "trainer.logger",
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "{run}/../elsewhere"}},
    ),
    (
        "trainer.logger",
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "{run}-elsewhere"}},
    ),
    (
        "trainer.logger",
        {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "{run}", "name": ".."}},
    ),
    (
        "trainer.logger",
        {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"save_dir": "{run}", "log_model": "all"}},
    ),
    (
        "trainer.logger",
        {
            "class_path": "lightning.pytorch.loggers.WandbLogger",
            "init_args": {"save_dir": "{run}", "settings": {"base_url": "http://127.0.0.1:9"}},
        },
    ),
    *(
        (
            "trainer.logger",
            {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": {"save_dir": "{run}", **given}},
        )
        for name, given in (
            ("CSVLogger", {"name": "/elsewhere"}),
            ("CSVLogger", {"version": "../../elsewhere"}),
            ("TensorBoardLogger", {"sub_dir": "../../../elsewhere"}),
            ("WandbLogger", {"dir": "../elsewhere"}),
            ("WandbLogger", {"experiment": {"entity": "theirs"}}),
        )
    ),
    ("trainer.model_registry", "somebody/somewhere"),
    ("trainer.profiler", {"class_path": "lightning.pytorch.profilers.SimpleProfiler", "init_args": {"dirpath": "e"}}),
]


@pytest.mark.parametrize(("path", "value"), WRITING)
def test_a_stored_trainer_writes_and_sends_nothing_elsewhere(
    path: str, value: Any, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(run, path, value)
    before = set(Path.cwd().rglob("*"))
    refused(capsys, resume(), path, "--trust")
    assert set(Path.cwd().rglob("*")) == before


def test_a_stored_online_logger_is_told_before_it_reaches_out(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(run.config.read_text())
    arguments = {"save_dir": "{run}", "project": "theirs", "offline": False}
    config["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    trust.note_online_logger(receive(config, "run folder 'run'"), "run folder 'run'")
    assert "'theirs': records are sent there" in capsys.readouterr().err
    arguments["offline"] = True
    trust.note_online_logger(config, "run folder 'run'")
    assert capsys.readouterr().err == ""


def test_a_stored_download_is_not_obeyed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    for name in ("MNIST", "CIFAR10"):
        forge(
            run,
            "data.train",
            {"class_path": f"torchvision.datasets.{name}", "init_args": {"root": ".", "download": True}},
        )
        refused(capsys, ["export", "run"], "download", "--trust")
        refused(capsys, resume(), "download", "--trust")


def _images(folder: Path) -> None:
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = torch.randint(0, 256, (8, 8), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_a_stored_cache_is_read_and_not_written(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    _images(Path("images"))
    spec = {"class_path": "contrast.data.ImageFolder", "init_args": {"root": "images", "cache": "packed"}}
    forge(run, "data.train", spec)
    forge(run, "data.test", None)
    forge(run, "data.limit", None)
    refused(capsys, ["export", "run"], "'packed'", "--trust")
    assert not Path("packed").exists()
    assert main(["export", "run", "--trust"]) == 0
    assert Path("packed").exists()
    assert main(["export", "run"]) == 0
    Image.new("L", (8, 8)).save("images/a/more.png")
    before = Path("packed").read_bytes()
    refused(capsys, ["export", "run"], "'packed'", "--trust")
    assert Path("packed").read_bytes() == before


@pytest.mark.parametrize("name", ["features", "evaluations", "export", "duplicates", "checkpoints", "gallery", "other"])
@pytest.mark.parametrize("command", [*EVALUATIONS, ["pretrain", "--resume"]])
def test_a_link_out_of_the_run_folder_is_not_written_through(
    name: str, command: list[str], run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, link = Path("elsewhere"), run.path / name
    shutil.move(link, elsewhere) if link.exists() else elsewhere.mkdir()
    link.symlink_to(elsewhere.resolve())
    before = sorted(elsewhere.rglob("*"))
    words = resume() if command[0] == "pretrain" else [command[0], "run", *command[1:]]
    refused(capsys, words, str(link), "--trust")
    assert sorted(elsewhere.rglob("*")) == before


def test_the_lock_is_not_made_through_a_link(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.lock.unlink(missing_ok=True)
    run.lock.symlink_to(Path("precious").resolve())
    refused(capsys, resume(), ".lock")
    assert not Path("precious").exists()


# The user's own classes.

OWN = """
import torch
from contrast.losses import InfoNCE
from contrast.data import Digits

class Mine(InfoNCE):
    def __init__(self, margin: float = 0.5, name: str = "mine") -> None:
        super().__init__()
        open("imported", "w").close()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run of a loss of the user's own, in a file of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("mine_objective.py").write_text(OWN)
    Path("own.yaml").write_bytes(
        written(tmp_path, "mocov2", model__loss__objective={"class_path": "mine_objective.Mine"}).read_bytes()
    )
    assert main(["pretrain", "--config", "own.yaml", "--run", "run"]) == 0
    Path("imported").unlink()
    _forget()
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    yield RunFolder(Path("run"))
    _forget()


def _forget() -> None:
    sys.modules.pop("mine_objective", None)


@pytest.mark.parametrize("command", [*EVALUATIONS, resume()])
def test_a_class_of_the_users_own_needs_trust(
    command: list[str], own: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command if command[0] == "pretrain" else [command[0], "run", *command[1:]]
    refused(capsys, words, "model.loss.objective", "'mine_objective.Mine'", "--trust")
    assert not Path("imported").exists()
    assert "mine_objective" not in sys.modules
    assert main([*words, "--trust"]) == 0
    assert Path("imported").exists()


AGAIN = [
    ["--config", "own.yaml"],
    ["--model.loss.objective", "mine_objective.Mine"],
    ["--model.loss.objective", "mine_objective.Mine", "--model.loss.objective.margin", "0.25"],
]


@pytest.mark.parametrize("words", AGAIN)
def test_a_class_that_the_command_line_names_again_is_trusted(words: list[str], own: RunFolder) -> None:
    assert main(resume(*words)) == 0
    assert Path("imported").exists()


def test_the_line_that_started_a_run_goes_on_with_it(own: RunFolder) -> None:
    line = ["pretrain", "--config", "own.yaml", "--run", "run", "--resume", "auto", "--trainer.max_steps", "3"]
    assert main([*line, "--trainer.max_epochs", "3"]) == 0


@pytest.mark.parametrize("value", ["os.system", ["os.system"], {"class_path": "os.system"}])
def test_a_class_named_again_does_not_take_the_files_arguments(
    value: Any, own: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(own, "model.loss.objective.name", value)
    refused(capsys, resume("--model.loss.objective", "mine_objective.Mine"), "model.loss.objective.name", "--trust")


@pytest.mark.parametrize("name", ["timm", "aeon", "tensorboard"])
def test_a_module_beside_the_run_is_not_imported_in_place_of_one_that_is_missing(
    name: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"{name}.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(Path.cwd()))])
    for command in (["export", "run"], ["report", "run"], ["doctor", "run"], resume()):
        assert main(command) == 0
        assert str(Path.cwd()) not in sys.path
    assert not Path("imported").exists()
