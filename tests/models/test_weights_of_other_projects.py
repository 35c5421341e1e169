"""Checkpoints with the keys and names that other projects write load without a word of help, and say what was read."""

from __future__ import annotations

import argparse
import collections
import logging
import os
import pathlib
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contrast.cli import main
from contrast.errors import InputError
from contrast.methods import SimCLR
from contrast.models import ConvNet, GradientCache, ResNet, Timm, load_weights
from tests.commands.running import pretrain

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def nets() -> tuple[State, State]:
    """State dicts of the trained network and of its moving average."""
    torch.manual_seed(0)
    return tuple(dict(ResNet("resnet18", base_width=8, image_size=224).state_dict()) for _ in range(2))  # type: ignore[return-value]


def below(prefix: str, state: State, *heads: str) -> State:
    return {prefix + name: value for name, value in state.items()} | {prefix + name: torch.ones(3) for name in heads}


def heads(*names: str) -> State:
    return {name: torch.ones(2) for name in names}


def _shortcuts(state: State) -> State:
    return {name.replace("downsample", "shortcut"): value for name, value in state.items()}


def _numbered(state: State) -> State:
    """Names of `nn.Sequential(*list(resnet.children())[:-1])`."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {".".join([numbers[name.split(".")[0]], *name.split(".")[1:]]): value for name, value in state.items()}


MLP = ("fc.0.weight", "fc.1.weight", "fc.3.weight")
DINO_HEAD = ("head.mlp.0.weight", "head.last_layer.weight_g")
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
ARGS = argparse.Namespace(arch="resnet18", lr=0.03, schedule=[120, 160])

FILES: dict[str, tuple[Callable[[State, State], object], str]] = {
    "MoCo v1": (
        lambda q, k: {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": below("module.encoder_q.", q, "fc.weight")
            | below("module.encoder_k.", k, "fc.weight")
            | heads("module.queue", "module.queue_ptr"),
            "optimizer": OPTIMIZER,
        },
        "'state_dict.encoder_q.'",
    ),
    "MoCo v2": (
        lambda q, k: {
            "state_dict": below("module.encoder_q.", q, "fc.0.weight", "fc.2.weight")
            | below("module.encoder_k.", k, "fc.0.weight", "fc.2.weight")
            | heads("module.queue")
        },
        "'state_dict.encoder_k.' fits too",
    ),
    "MoCo v3": (
        lambda q, k: {
            "state_dict": below("module.base_encoder.", q, *MLP)
            | below("module.momentum_encoder.", k, *MLP)
            | heads("module.predictor.0.weight"),
            "scaler": {"scale": 65536.0},
        },
        "'state_dict.base_encoder.'",
    ),
    "SimSiam": (
        lambda q, k: {
            "epoch": 100,
            "arch": "resnet18",
            "state_dict": below("module.encoder.", q, *MLP, "fc.6.bias") | heads("module.predictor.0.weight"),
            "optimizer": OPTIMIZER,
        },
        "heads left out: encoder.fc",
    ),
    "SupContrast": (
        lambda q, k: {
            "opt": ARGS,
            "model": below("encoder.module.", _shortcuts(q)) | heads("head.0.weight", "head.2.weight"),
            "optimizer": OPTIMIZER,
            "epoch": 1000,
        },
        "'model.encoder.'",
    ),
    "DINO, whole": (
        lambda q, k: {
            "student": below("module.backbone.", k) | below("module.", {}, *DINO_HEAD),
            "teacher": below("backbone.", q) | heads(*DINO_HEAD),
            "optimizer": OPTIMIZER,
            "epoch": 300,
            "args": ARGS,
            "dino_loss": {"center": torch.ones(1, 3)},
        },
        "'teacher.backbone.'; 'student.backbone.' fits too",
    ),
    "DINO, backbone": (lambda q, k: q, ""),
    "SwAV, bare": (
        lambda q, k: below("module.", q, "projection_head.0.weight", "projection_head.3.weight", "prototypes.weight"),
        "heads left out: projection_head, prototypes",
    ),
    "SwAV, whole": (
        lambda q, k: {
            "epoch": 800,
            "state_dict": below("module.", q, "projection_head.0.weight", "prototypes.prototypes0.weight"),
            "optimizer": OPTIMIZER,
            "amp": {"loss_scaler0": {"loss_scale": 1024.0}},
        },
        "heads left out: projection_head, prototypes",
    ),
    "BYOL of PyTorch": (
        lambda q, k: (
            below("net.", q, "fc.weight")
            | below("online_encoder.net.", q, "fc.weight")
            | heads("online_encoder.projector.0.weight", "online_predictor.0.weight")
            | below("target_encoder.net.", k, "fc.weight")
        ),
        "'net.'",
    ),
    "Barlow Twins, whole": (
        lambda q, k: {
            "epoch": 1000,
            "model": below("module.backbone.", q)
            | heads("module.projector.0.weight", "module.bn.running_mean", "module.bn.running_var"),
            "optimizer": OPTIMIZER,
        },
        "'model.backbone.'",
    ),
    "VICReg, whole": (
        lambda q, k: {"epoch": 1, "model": below("module.backbone.", q) | heads("module.projector.0.weight")},
        "'model.backbone.'",
    ),
    "torchvision": (lambda q, k: q | heads("fc.weight", "fc.bias"), "heads left out: fc"),
    "timm, while it trains": (
        lambda q, k: {
            "epoch": 3,
            "arch": "resnet18",
            "state_dict": q | heads("fc.weight"),
            "optimizer": OPTIMIZER,
            "args": ARGS,
            "state_dict_ema": k | heads("fc.weight"),
            "metric": np.float64(76.1),
        },
        "'state_dict_ema.' fits too",
    ),
    "lightly, numbered": (
        lambda q, k: {
            "state_dict": below("backbone.", _numbered(q))
            | below("backbone_momentum.", _numbered(k))
            | heads("projection_head.layers.0.weight"),
            "hyper_parameters": {"lr": 0.06},
            "pytorch-lightning_version": "2.1.0",
        },
        "'state_dict.backbone.'",
    ),
    "lightly, DINO": (
        lambda q, k: {
            "state_dict": below("student_backbone.", _numbered(k))
            | below("teacher_backbone.", _numbered(q))
            | heads("teacher_head.layers.0.weight")
        },
        "'state_dict.teacher_backbone.'",
    ),
    "solo-learn": (
        lambda q, k: {
            "epoch": 400,
            "state_dict": below("backbone.", q)
            | below("momentum_backbone.", k)
            | heads("projector.0.weight", "classifier.weight", "queue", "momentum_projector.0.weight"),
            "hyper_parameters": {"optimizer": {"name": "lars"}},
            "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PosixPath("a/b")}},
        },
        "'state_dict.backbone.'",
    ),
    "solo-learn, before 2022": (
        lambda q, k: {"state_dict": below("encoder.", q) | heads("projector.0.weight")},
        "'state_dict.encoder.'",
    ),
    "model_state_dict": (lambda q, k: {"model_state_dict": q, "loss": 0.3}, ""),
    "net": (lambda q, k: {"net": below("module.", q), "acc": 93.1, "epoch": 9}, ""),
    "torch.compile": (lambda q, k: below("_orig_mod.", q), ""),
    "torch.compile within and without": (
        lambda q, k: {"model": below("module._orig_mod.backbone._orig_mod.", q)},
        "'model.backbone.'",
    ),
    "Accelerate": (lambda q, k: {"network": {"weights": below("encoder.", q)}}, "'network.weights.encoder.'"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("project", FILES)
def test_checkpoints_of(
    project: str, zipped: bool, nets: tuple[State, State], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, said = FILES[project]
    torch.save(make(*nets), tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    net = ResNet("resnet18", base_width=8, image_size=224)
    with caplog.at_level(logging.WARNING):
        load_weights(net, str(tmp_path / "file.pth"))
    assert holds(net, nets[0])
    assert said in caplog.text
    assert caplog.text.count("\n") <= 1


def holds(net: nn.Module, state: State) -> bool:
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


words = st.sampled_from(["encoder", "model", "net", "module", "_orig_mod", "trunk", "a", "student", "0"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["state_dict", "model", "net", "payload"]), max_size=3),
    st.lists(words, max_size=4),
    st.integers(0, 3),
)
def test_any_prefix_below_any_keys(tmp_path_factory, keys: list[str], parts: list[str], inside: int) -> None:
    torch.manual_seed(0)
    source = ConvNet((2,), channels=1, image_size=8)
    content: object = {}
    for name, value in source.state_dict().items():
        own = name.split(".")
        own.insert(min(inside, len(own)), "_orig_mod")
        content[".".join([*parts, *own])] = value  # type: ignore[index]
    for key in keys:
        content = {key: content, "epoch": 3, "args": ARGS}
    path = tmp_path_factory.mktemp("weights") / "file.pth"
    torch.save(content, path)
    for prefix in (None, ".".join(parts) + "." * bool(parts)):
        net = ConvNet((2,), channels=1, image_size=8)
        assert load_weights(net, path, prefix=prefix) == []
        assert holds(net, source.state_dict())


def refusal(net: nn.Module, content: object, folder: Path, **given: str) -> str:
    torch.save(content, folder / "file.pth")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError) as raised:
        load_weights(net, folder / "file.pth", **given)
    assert holds(net, before)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_two_networks_that_fit_are_named_and_the_prefix_chooses(nets: tuple[State, State], tmp_path: Path) -> None:
    net = ResNet("resnet18", base_width=8, image_size=224)
    content = below("left.", nets[0]) | below("right.", nets[1])
    message = refusal(net, content, tmp_path)
    assert "hold 2 networks that fit ('left.', 'right.')" in message
    assert "--weights-prefix" in message
    for prefix, state in (("left.", nets[0]), ("module.right", nets[1])):
        load_weights(net, tmp_path / "file.pth", prefix=prefix)
        assert holds(net, state)
        assert holds(ResNet("resnet18", 224, base_width=8, weights=tmp_path / "file.pth", weights_prefix=prefix), state)
    message = refusal(net, content, tmp_path, prefix="middle.")
    assert "no name begins with 'middle.'" in message
    assert "'left.'" in message
    assert "give one of them" in refusal(net, content, tmp_path, prefix="left.", layout="moco")


@pytest.mark.parametrize("prefix", ["student.", "student.backbone.", "student"])
def test_the_student_by_its_key(prefix: str, nets: tuple[State, State], tmp_path: Path) -> None:
    torch.save(FILES["DINO, whole"][0](*nets), tmp_path / "file.pth")
    net = ResNet("resnet18", base_width=8, image_size=224)
    load_weights(net, tmp_path / "file.pth", prefix=prefix)
    assert holds(net, nets[1])


def test_a_moving_average_is_taken_where_it_is_asked_for(nets: tuple[State, State], tmp_path: Path) -> None:
    torch.save(FILES["MoCo v2"][0](*nets), tmp_path / "file.pth")
    net = ResNet("resnet18", base_width=8, image_size=224)
    load_weights(net, tmp_path / "file.pth", prefix="module.encoder_k.")
    assert holds(net, nets[1])


def test_the_nearest_fit_is_named(nets: tuple[State, State], tmp_path: Path) -> None:
    query = dict(nets[0])
    del query["layer4.1.bn2.weight"]
    query["layer9.weight"] = torch.ones(1)
    message = refusal(
        ResNet("resnet18", base_width=8, image_size=224),
        {"state_dict": below("module.trunk.", query) | below("module.small.", {"conv1.weight": torch.ones(3)})},
        tmp_path,
    )
    assert "nearest fit: the names below 'state_dict.trunk.'" in message
    assert "1 missing (layer4.1.bn2.weight); 1 unexpected (layer9.weight)" in message


def test_a_deeper_network_does_not_fit_a_shallower_one(tmp_path: Path) -> None:
    deeper = ResNet("resnet34", base_width=8, image_size=224).state_dict()
    message = refusal(ResNet("resnet18", base_width=8, image_size=224), below("encoder.", deeper), tmp_path)
    assert "unexpected (layer1.2" in message


def test_files_without_any_name_of_the_network(tmp_path: Path) -> None:
    message = refusal(ConvNet((2,), channels=1, image_size=8), {"a": torch.ones(2)}, tmp_path)
    assert "no name in the file is one of the network's" in message


HARMLESS = {
    "Namespace": ARGS,
    "SimpleNamespace": types.SimpleNamespace(lr=0.1),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "OrderedDict": collections.OrderedDict(a=1),
    "Path": pathlib.PurePosixPath("a/b"),
    "numpy scalars": [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)],
    "numpy dtype": np.dtype("float32"),
    "torch dtype": [torch.float16, torch.device("cpu"), torch.Size([3])],
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_objects_beside_the_weights(kind: str, zipped: bool, tmp_path: Path) -> None:
    source = ConvNet((2,), channels=1, image_size=8)
    content = {"model": source.state_dict(), "args": HARMLESS[kind]}
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    net = ConvNet((2,), channels=1, image_size=8)
    load_weights(net, tmp_path / "file.pth")
    assert holds(net, source.state_dict())


class Runs:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.what  # type: ignore[return-value]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "call",
    [(os.system, "touch harmed"), (eval, "open('harmed', 'w')"), (exec, "open('harmed', 'w')"), (open, "harmed", "w"),
     (pathlib.Path.touch, Path("harmed")), (getattr, argparse.Namespace, "__init__"), (np.load, "harmed"),
     (torch.load, "harmed"), (torch.hub.load, "a/b", "c"), (__import__, "this"), (nn.Linear, 1, 1)],
)  # fmt: skip
def test_nothing_else_is_called(
    call: tuple[Callable[..., object], object], zipped: bool, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = ConvNet((2,), channels=1, image_size=8)
    content = {"model": source.state_dict(), "args": Runs(*call)}
    torch.save(content, "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="could run any code"):
        load_weights(ConvNet((2,), channels=1, image_size=8), "file.pth")
    assert [each.name for each in tmp_path.iterdir()] == ["file.pth"]


def test_a_compressed_file_is_not_unfolded(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as old,
        zipfile.ZipFile(tmp_path / "file.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    with pytest.raises(InputError, match="compressed"):
        load_weights(ConvNet((2,), channels=1, image_size=8), tmp_path / "file.pth")


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "NaN": (lambda value: torch.full_like(value, torch.nan), "holds NaN or infinity"),
    "infinity": (lambda value: torch.full_like(value, -torch.inf), "holds NaN or infinity"),
    "too large": (lambda value: torch.full_like(value, 1e300, dtype=torch.float64), "holds NaN or infinity"),
    "meta": (lambda value: value.to("meta"), "is on the meta device"),
    "sparse": (lambda value: value.to_sparse(), "has the layout sparse_coo"),
    "integers": (lambda value: value.to(torch.int8), "has type int8"),
    "booleans": (lambda value: value.bool(), "has type bool"),
    "complex": (lambda value: value.to(torch.complex64), "has type complex64"),
    "quantised": (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "is quantised (qint8)"),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.filterwarnings("ignore:.*quantiz.*", "ignore:.*Sparse.*", "ignore:.*TypedStorage.*")
def test_tensors_without_plain_finite_numbers(kind: str, tmp_path: Path) -> None:
    change, said = CHANGES[kind]
    state = dict(ConvNet((2,), channels=1, image_size=8).state_dict())
    state["stages.0.0.weight"] = change(state["stages.0.0.weight"])
    message = refusal(ConvNet((2,), channels=1, image_size=8), state, tmp_path)
    assert f"'stages.0.0.weight' {said}" in message


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_converted_and_said(kind: torch.dtype, tmp_path: Path, caplog) -> None:
    source = ConvNet((2,), channels=1, image_size=8)
    state = {n: value.to(kind) if value.is_floating_point() else value for n, value in source.state_dict().items()}
    torch.save(state, tmp_path / "file.pth")
    net = ConvNet((2,), channels=1, image_size=8)
    load_weights(net, tmp_path / "file.pth")
    assert all(value.dtype == net.state_dict()[name].dtype for name, value in source.state_dict().items())
    assert all(torch.equal(value, state[name].to(value.dtype)) for name, value in net.state_dict().items())
    assert f"converted from {str(kind).removeprefix('torch.')} to float32" in caplog.text


def test_a_compiled_backbone_is_read_back(tmp_path: Path) -> None:
    inner = ConvNet((2,), channels=1, image_size=8)
    method = SimCLR(inner)
    method.backbone = torch.compile(inner, backend="eager")  # type: ignore[assignment]  # past the check of types in tests
    torch.save({"state_dict": method.state_dict()}, tmp_path / "file.ckpt")
    assert any("_orig_mod" in name for name in method.state_dict())
    for net in (ConvNet((2,), channels=1, image_size=8), GradientCache(ConvNet((2,), channels=1, image_size=8), 4)):
        load_weights(net, tmp_path / "file.ckpt")
        assert holds(net.plain_module, inner.state_dict())


def test_a_run_with_a_compiled_backbone_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from contrast.runs.checkpoint import read_checkpoint, write_checkpoint

    assert pretrain(tmp_path / "run") == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = read_checkpoint(checkpoint)
    content["state_dict"] = {
        name.replace("backbone.", "backbone._orig_mod.", 1): value for name, value in content["state_dict"].items()
    }
    write_checkpoint(content, checkpoint)
    assert main(["knn", str(tmp_path / "run"), "--neighbours", "5"]) == 0


def test_the_prefix_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    states = [Timm("test_resnet", image_size=32, channels=1).plain_state_dict() for _ in range(2)]
    torch.save(below("left.", states[0]) | below("right.", states[1]), "file.pth")
    digits = {"class_path": "Digits", "init_args": {"train": True}}
    views = {"class_path": "SimCLRViews", "init_args": {"size": 32}}
    data = {"train": digits, "test": digits, "views": views, "workers": 0, "limit": 60, "channels": 1}
    Path("data.yaml").write_text(yaml.safe_dump({"data": {"class_path": "ImageData", "init_args": data}}))
    given = ["knn", "--weights", "file.pth", "--backbone", "timm/test_resnet", "--data", "data.yaml"]
    assert main([*given, "--neighbours", "5"]) == 2
    assert "hold 2 networks that fit ('left.', 'right.')" in capsys.readouterr().err
    assert main([*given, "--neighbours", "5", "--weights-prefix", "right."]) == 0
    assert main(["knn", "runs/none", "--weights-prefix", "right."]) == 2
    assert "--weights-prefix belongs to --weights" in capsys.readouterr().err
