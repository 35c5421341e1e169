"""Load an encoder and its data from a run folder, a checkpoint or a weights file."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch

from contrast.commands.building import build, evaluation_parser, import_from_here, resolve
from contrast.commands.completing import complete
from contrast.commands.configuration import Config, compose, short
from contrast.commands.stored_defaults import with_stored_defaults
from contrast.commands.trust import names_own_classes, receive
from contrast.data import ImageData, TrainingData
from contrast.data.identity import DataIdentity
from contrast.errors import InputError
from contrast.evaluation.encoder import Encoder, fingerprint, with_backbone
from contrast.models import Backbone, ResNet, Timm, load_weights, require_fitting
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runtime import keep_freed_memory

__all__ = [
    "LoadedRun",
    "load_foreign",
    "load_run",
]

_SCALE = ("mean", "std")


@dataclass(frozen=True)
class LoadedRun:
    """A backbone with trained weights, and the data to evaluate it on.

    Attributes:
        folder: the run folder; None for weights from another source and for a checkpoint outside a run folder.
        config: the configuration of the run; empty for weights from another source.
        backbone: the backbone with its weights, on the CPU.
        data: training and test set, with the shape and the standardisation of their samples.
        encoder: the backbone in the form that evaluations take.
        untrained: the same architecture with the random weights of a new network, as a baseline.
        trained_on: identity of the training data according to the checkpoint; None if unknown.
        own_data: whether `data` come from the run's own configuration.
        method: name of the class that trained the backbone; None if unknown.
        epoch: number of epochs trained; None if unknown.
        checkpoint: the file that the weights were read from.
    """

    folder: RunFolder | None
    config: Config
    backbone: Backbone
    data: TrainingData
    encoder: Encoder
    method: str | None
    epoch: int | None
    checkpoint: Path
    untrained: Encoder
    trained_on: DataIdentity | None = None
    own_data: bool = False

    def changed_data(self) -> str | None:
        """Describe how the data that the run's configuration names differ from the data that the run was trained on.

        Returns:
            The difference in words; None if there is none, if `data` are not the run's own, or if the checkpoint does
            not identify its training data.
        """
        if self.trained_on is None or not self.own_data:
            return None
        return self.trained_on.difference(self.data.identity)


def load_run(source: Path | str, data_config: Sequence[Path | str] = (), trust: bool = False) -> LoadedRun:
    """Load the backbone of a run from its folder (last checkpoint) or from one of its checkpoint files.

    Args:
        source: a run folder or a ``.ckpt`` file.
        data_config: YAML files with a ``data`` section to evaluate on instead of the run's own data.
        trust: whether the configuration in the checkpoint may name any class of any module. Such a class is imported
            and called.

    Returns:
        The backbone and its data.

    Raises:
        InputError: one line, if something is missing, damaged or does not fit, or if the checkpoint's configuration
            names a class that is not on the allow list of `contrast.commands.trust`.
    """
    path = Path(source)
    checkpoint = path if path.is_file() else RunFolder.existing(path).last_checkpoint
    content = read_checkpoint(checkpoint)
    own = with_stored_defaults(content["contrast"]["config"])
    config = {name: own[name] for name in ("seed_everything", "model", "data")}
    given = _with_data({}, data_config)
    config = _with_scale_of(own, {**config, **given})
    if not trust:
        config = receive(config, f"checkpoint {str(checkpoint)!r}", given)
    built = _build(config, with_model=True, received=not trust, own=trust or names_own_classes(given))
    started = copy.deepcopy(built.model.backbone)
    _load_strictly(built.model, content["state_dict"], checkpoint)
    inside = checkpoint.parent.parent
    folder = RunFolder(inside) if RunFolder(inside).config.is_file() else None
    # Lightning's own `epoch` is the index of the current epoch: after the end of an epoch it is one less than the
    # number of epochs trained.
    method, epoch = short(own["model"]["class_path"]), int(content["contrast"].get("epochs", content["epoch"]))
    description = {"method": method, "epoch": epoch, "step": int(content["global_step"])}
    encoder = _encoder(built.model.backbone, built.data, description)
    untrained = _untrained(encoder, started, config.get("seed_everything", 0))
    return LoadedRun(
        folder,
        own,
        built.model.backbone,
        built.data,
        encoder,
        method,
        epoch,
        checkpoint,
        untrained,
        trained_on=DataIdentity.from_state(content["contrast"].get("data")),
        own_data=not data_config,
    )


def load_foreign(
    weights: Path | str, architecture: str, data_config: Sequence[Path | str], prefix: str | None = None
) -> LoadedRun:
    """Load a backbone with pretrained weights from another source: official MoCo, torchvision or timm.

    Args:
        weights: the weights file.
        architecture: name of a torchvision ResNet, for example ``resnet50``, or ``timm/NAME``.
        data_config: YAML files with the ``data`` section to evaluate on.
        prefix: prefix of the backbone's parameter names in the file; None detects it.

    Returns:
        The backbone and the data.

    Raises:
        InputError: if the architecture is unknown, or weights and architecture do not match key by key.
    """
    if not data_config:
        raise InputError("--weights names no data: give --data FILE.yaml with a data section")
    built = _build(_with_data({}, data_config), with_model=False, received=False, own=True)
    if not isinstance(built.data, ImageData):
        raise InputError(f"--weights needs images, and the data are {built.data.samples_name}: evaluate a run")
    channels, size, _ = built.data.input_shape
    if architecture.startswith("timm/"):
        backbone: Backbone = Timm(architecture.removeprefix("timm/"), image_size=size, channels=channels)
        started = copy.deepcopy(backbone)
        load_weights(backbone, weights, prefix=prefix)
    else:
        backbone, started = _resnet_with(weights, architecture, size, channels, prefix)
    if built.data.measured():
        print(
            "note    images are standardised by the mean and std of the train set: set data.mean and data.std to those "
            "that the weights were trained with",
            file=sys.stderr,
        )
    encoder = _encoder(backbone, built.data, {"weights": Path(weights).name})
    untrained = _untrained(encoder, started, 0)
    return LoadedRun(None, {}, backbone, built.data, encoder, None, None, Path(weights), untrained)


def _resnet_with(
    weights: Path | str, architecture: str, size: int, channels: int, prefix: str | None
) -> tuple[ResNet, ResNet]:
    """Load a ResNet from foreign weights, with the usual stem for this image size, or the other stem if only that fits.

    Returns:
        The network with the weights, and a copy from before the weights were loaded.
    """
    usual = ResNet(architecture, image_size=size, channels=channels)
    started = copy.deepcopy(usual)
    try:
        load_weights(usual, weights, prefix=prefix)
    except InputError:
        other: Literal["small", "large"] = "large" if usual.stem == "small" else "small"
        backbone = ResNet(architecture, image_size=size, stem=other, channels=channels)
        started = copy.deepcopy(backbone)
        try:
            load_weights(backbone, weights, prefix=prefix)
        except InputError:
            pass
        else:
            return backbone, started
        raise
    return usual, started


def _with_data(config: Config, files: Sequence[Path | str]) -> Config:
    if not files:
        return config
    laid = compose([Path(file) for file in files], ()).config
    if "data" not in laid:
        raise InputError(f"{', '.join(map(str, files))} has no data section: write the data set under `data:`")
    return {**config, "data": laid["data"]}


def _with_scale_of(own: Config, config: Config) -> Config:
    """Standardise images of another data set like the encoder's training images, unless its file gives mean or std."""
    trained, given = (each["data"] for each in (own, config))
    kinds = {short(each.get("class_path", "ImageData")) for each in (trained, given) if isinstance(each, dict)}
    arguments = given.get("init_args") if isinstance(given, dict) else None
    if not isinstance(trained, dict) or kinds != {"ImageData"} or not isinstance(arguments, dict):
        return config
    if any(arguments.get(name) is not None for name in _SCALE):
        return config
    scale = {name: trained["init_args"][name] for name in _SCALE}
    same = arguments.get("channels", 3) == trained["init_args"].get("channels", 3)
    return {**config, "data": {**given, "init_args": {**arguments, **scale}}} if same else config


def _build(config: Config, with_model: bool, received: bool, own: bool) -> Any:
    if own:  # only for classes that the user names: the current folder may be a received run folder
        import_from_here()
    parser = evaluation_parser(with_model)
    typed, _ = resolve(parser, complete(config))
    lightning.seed_everything(config.get("seed_everything", 0), verbose=False)
    return build(parser, typed, received)


def _encoder(backbone: Backbone, data: TrainingData, description: dict[str, Any]) -> Encoder:
    keep_freed_memory()
    fix = f"write `channels: {backbone.channels}` into the data section of the --data file, or give other data"
    require_fitting(backbone, data.input_shape, fix)
    return Encoder(
        backbone=backbone,
        width=backbone.width,
        input_shape=data.input_shape,
        standardisation=data.standardisation,
        fingerprint=fingerprint(backbone),
        description={**description, "backbone": backbone.describe()},
    )


def _untrained(encoder: Encoder, backbone: Backbone, seed: int) -> Encoder:
    architecture = backbone.describe()
    words = f"{architecture.get('architecture', type(backbone).__name__)} with random weights"
    description = {"architecture": words, "weights": f"random, seed {seed}", "backbone": architecture}
    return with_backbone(encoder, backbone, description)


def _load_strictly(method: torch.nn.Module, state: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    try:
        # If torch.compile wrapped the backbone in training, its parameter names contain `_orig_mod.`.
        method.load_state_dict({name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()})
    except RuntimeError as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines()[1:]]
        shown = "; ".join(lines)[:300]
        raise InputError(
            f"checkpoint {str(checkpoint)!r}does not fit the architecture of its configuration:  {shown}"
        ) from error
