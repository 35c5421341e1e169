"""Weights from elsewhere: every layout in, everything else refused in one line."""

from __future__ import annotations

import inspect
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from lightning import LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor, nn

from contrast.errors import InputError
from contrast.models import Backbone, ConvNet, ResNet, Timm, load_weights

State = dict[str, Tensor]


def small(seed: int, **arguments: int) -> ConvNet:
    torch.manual_seed(seed)
    network = ConvNet((4, 6), channels=1, image_size=8, **arguments)
    for each in network.buffers():
        each.copy_(torch.randint(1, 9, each.shape).to(each.dtype))
    return network


def same(ours: nn.Module, state: State) -> bool:
    mine = ours.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[name], state[name]) for name in mine)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def moco(query: State, key: State) -> object:
    heads = {"fc.0.weight": torch.randn(6, 6), "fc.2.bias": torch.randn(3)}
    state = prefixed(query | heads, "module.encoder_q.") | prefixed(key | heads, "module.encoder_k.")
    state |= {"module.queue": torch.randn(3, 8), "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def moco_v3(query: State, key: State) -> object:
    heads = {"head.0.weight": torch.randn(6, 6), "fc.0.weight": torch.randn(3)}
    state = prefixed(query | heads, "module.base_encoder.") | prefixed(key | heads, "module.momentum_encoder.")
    return {"epoch": 300, "state_dict": state | {"module.predictor.0.weight": torch.randn(3)}, "scaler": {"scale": 1.0}}


def ours(query: State, key: State) -> object:
    state = prefixed(query, "backbone.") | prefixed(key, "key_encoder.0.") | {"head.layers.0.weight": torch.randn(3)}
    return {"state_dict": state | {"queue.keys": torch.randn(8, 3)}, "pytorch-lightning_version": "2.6.6"}


@pytest.mark.parametrize(
    ("make", "layout", "dropped"),
    [
        (moco, "moco", 2 + 12 + 2 + 2),
        (moco_v3, "moco_v3", 2 + 12 + 2 + 1),
        (ours, "lightning", 12 + 2),
        (lambda query, key: query, "plain", 0),
        (lambda query, key: {"model": prefixed(query, "module.") | {"fc.bias": torch.ones(3)}}, "plain", 1),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(tmp_path: Path, make: Callable[[State, State], object], layout, dropped: int, zipped: bool) -> None:
    state = small(1).state_dict()
    content = make(state, small(2).state_dict())
    torch.save(content, tmp_path / "file.pth.tar", _use_new_zipfile_serialization=zipped)
    for given in ("auto", layout):
        network = small(3)
        assert not same(network, state)
        left_out = load_weights(network, tmp_path / "file.pth.tar", given)
        assert same(network, state)
        assert len(left_out) == dropped


def test_safetensors_and_exports(tmp_path: Path) -> None:
    state = small(1).plain_state_dict()
    save_file(state, tmp_path / "model.safetensors")
    network = small(2)
    assert load_weights(network, tmp_path / "model.safetensors") == []
    assert same(network, state)


def test_torchvision_and_timm_classifiers(tmp_path: Path) -> None:
    for classifier, make in (
        (torchvision.models.resnet18(num_classes=5), ResNet),
        (timm.create_model("test_resnet", num_classes=5), lambda weights: Timm("test_resnet", weights=weights)),
    ):
        path = tmp_path / "classifier.pth"
        torch.save(classifier.state_dict(), path)
        network = make(weights=path)
        assert load_weights(network, path) == ["fc.weight", "fc.bias"]
        kept = {name: value for name, value in classifier.state_dict().items() if not name.startswith("fc.")}
        assert same(network.plain_module, kept)


def test_what_a_network_keeps_of_its_head_is_loaded(tmp_path: Path) -> None:
    classifier = timm.create_model("test_convnext", num_classes=5)
    nn.init.constant_(classifier.head.norm.weight, 3.0)
    torch.save(classifier.state_dict(), tmp_path / "convnext.pth")
    network = Timm("test_convnext", image_size=32)
    assert load_weights(network, tmp_path / "convnext.pth") == ["head.fc.weight", "head.fc.bias"]
    assert (network.plain_module.head.norm.weight == 3).all()


class Method(LightningModule):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.save_hyperparameters({"backbone": {"class_path": "ConvNet", "init_args": {"widths": [4, 6]}}})
        self.backbone, self.head = backbone, nn.Linear(backbone.width, 2)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self.head(self.backbone(batch[0])).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("make", [lambda: small(1), lambda: Timm("test_resnet", image_size=32, channels=1)])
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec.*:FutureWarning")
def test_a_real_lightning_checkpoint(tmp_path: Path, make: Callable[[], Backbone]) -> None:
    method = Method(make())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(4, 1, 32, 32)), 2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(method, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    network = make()
    assert load_weights(network, tmp_path / "last.ckpt") == ["head.weight", "head.bias"]
    assert same(network, method.backbone.state_dict())


def test_counters_that_old_files_lack(tmp_path: Path) -> None:
    state = {name: value for name, value in small(1).state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    network = small(2)
    load_weights(network, tmp_path / "old.pth")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())


def refusal(network: Backbone, path: Path, layout: str = "auto") -> str:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError) as raised:
        inspect.unwrap(load_weights)(network, path, layout)  # past the type check that tests put round it
    message = str(raised.value)
    assert "\n" not in message
    assert same(network, before)
    return message


def test_what_does_not_fit_is_counted_and_named(tmp_path: Path) -> None:
    state = small(1).state_dict()
    state["extra.weight"] = state.pop("stages.0.0.weight")
    state["stages.1.0.weight"] = torch.zeros(6, 5, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    message = refusal(small(2), tmp_path / "other.pth")
    assert "do not fit convnet: 1 missing (stages.0.0.weight); 1 unexpected (extra.weight); " in message
    assert "1 of another shape (stages.1.0.weight (6, 5, 3, 3) for (6, 4, 3, 3)): set name, stem" in message
    torch.save(ResNet("resnet18", base_width=8).state_dict(), tmp_path / "resnet.pth")
    message = refusal(ResNet("resnet18", image_size=32, base_width=8), tmp_path / "resnet.pth")
    assert "resnet18: 1 of another shape (conv1.weight (8, 3, 7, 7) for (8, 3, 3, 3))" in message
    message = refusal(ResNet("resnet50", base_width=8), tmp_path / "resnet.pth")
    assert re.search(r"\d{3} missing \(\S+, \S+, \S+, …\)", message)
    assert len(message) < 700
    nearly = small(1).state_dict()
    del nearly["stages.1.2.running_mean"]
    torch.save(nearly, tmp_path / "nearly.pth")
    assert "1 missing (stages.1.2.running_mean)" in refusal(small(2), tmp_path / "nearly.pth")


class Harmful:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo harmed > harmed",)


def saved(content: object, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_does_not(tmp_path: Path, monkeypatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (Harmful(), nn.Linear(1, 1)):
        (tmp_path / "file.pth").write_bytes(saved({"state_dict": small(1).state_dict(), "args": content}, zipped))
        assert "could run any code" in refusal(small(2), tmp_path / "file.pth")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_files(tmp_path: Path, zipped: bool) -> None:
    whole, network = saved(small(1).state_dict(), zipped), small(2)
    for length in range(40, len(whole) - 1, 97):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        assert "cannot be read, they may be cut short" in refusal(network, tmp_path / "cut.pth")
    save_file(network.plain_state_dict(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 5, 300, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        assert "cannot be read" in refusal(network, tmp_path / "cut.safetensors")


def test_files_that_are_none(tmp_path: Path) -> None:
    network = small(1)
    for content in (b"", b"hello", bytes(range(256)) * 9):
        (tmp_path / "file.pth").write_bytes(content)
        assert "neither a file of torch.save nor named .safetensors" in refusal(network, tmp_path / "file.pth")
    assert "no weights file" in refusal(network, tmp_path / "missing.pth")
    assert "no weights file" in refusal(network, tmp_path)
    for content in ([torch.ones(2)], {"epoch": 3}, torch.ones(2), {"state_dict": {}}):
        (tmp_path / "file.pth").write_bytes(saved(content))
        assert "hold no state dict" in refusal(network, tmp_path / "file.pth")


def test_layouts_that_are_none(tmp_path: Path) -> None:
    torch.save(small(1).state_dict(), tmp_path / "file.pth")
    assert "no name begins with 'encoder_q.'" in refusal(small(2), tmp_path / "file.pth", "moco")
    assert "no layout 'mocov3' of weights; did you mean 'moco_v3'?" in refusal(
        small(2), tmp_path / "file.pth", "mocov3"
    )
