"""Load pretrained weights into a backbone, from checkpoints of this project or of other projects."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError, did_you_mean
from contrast.models.backbone import Backbone
from contrast.models.weights_file import State, read_states

__all__ = ["Layout", "load_weights"]

Layout = Literal["auto", "plain", "moco", "moco_v3", "lightning"]
Name = tuple[str, ...]
"""Parameter name, split at its dots."""

_PREFIXES = {"moco": "encoder_q", "moco_v3": "base_encoder", "lightning": "backbone", "plain": ""}
_WRAPPERS = frozenset({"_orig_mod", "module"})
"""Name parts that torch.compile and DistributedDataParallel insert, anywhere in a name."""
_HEAD = re.compile(r"head|^fc|classif|project|predict|prototype|^linear|^queue|^last_layer$")
"""Pattern for the first part of names that belong to a classifier, a projection head or a key queue."""
_SLOW = re.compile(r"momentum|encoder_k|^key|target|(^|_)ema($|_)")
"""Pattern for a part of names that belong to a moving average of the trained network."""
_SPELLINGS = {"shortcut": "downsample"}
"""Name parts that other ResNets spell differently from torchvision."""
_COUNTER = "num_batches_tracked"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    """A network in a weights file that may match the backbone.

    Attributes:
        place: keys that lead to the network's state dict in the file.
        prefix: name parts before the backbone's own names in that state dict.
        target: module that would be filled.
        names: the target's names, each with the name of its tensor in the state dict.
        heads: names below the prefix that belong to a head.
        missing: names that only the target has.
        unexpected: names that only the file has.
        reshaped: names whose shapes differ.
    """

    place: Name
    prefix: Name
    target: nn.Module
    names: dict[str, str]
    heads: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    @property
    def nearness(self) -> tuple[int, int]:
        """Sort key: larger for a nearer fit."""
        right = len(self.names) - len(self.reshaped)
        return right, -len(self.unexpected)

    @property
    def path(self) -> Name:
        return (*self.place, *self.prefix)

    @property
    def shown(self) -> str:
        return "".join(f"{part}." for part in self.path)


@checked
def load_weights(backbone: Backbone, path: str | Path, layout: Layout = "auto", prefix: str | None = None) -> list[str]:
    """Load pretrained weights from a file into a backbone; all but classifiers and projection heads must match exactly.

    The file is ``.safetensors`` or was written by `torch.save`. Its state dict may be bare or below keys such as
    "state_dict", "model", "net" or "teacher".

    The text before all of the backbone's names is the prefix of the network in the file: ``encoder_q.`` (MoCo v1 and
    v2), ``base_encoder.`` (MoCo v3), ``encoder.`` (SimSiam, SupContrast), ``backbone.`` (this package, DINO, Barlow
    Twins, VICReg, lightly, solo-learn) or any other. ``module.`` of DistributedDataParallel and ``_orig_mod.`` of
    torch.compile are ignored anywhere in a name.

    If several networks of a file match, the trained network is preferred to its moving average (``encoder_q.`` to
    ``encoder_k.``), and the teacher to the student, as DINO evaluates the teacher. A log line says which network was
    loaded.

    No code in the file is executed (``weights_only=True``). Settings such as `argparse.Namespace` are skipped; other
    objects raise an error. float16, bfloat16 and float64 weights are converted to the backbone's dtype.

    Args:
        backbone: filled in place.
        path: the file.
        layout: prefix by the kind of checkpoint. "moco" takes only names below ``encoder_q.``, "moco_v3" names below
            ``base_encoder.``, "lightning" (this package) names below ``backbone.``, and "plain" names without a prefix.
            "auto" searches for the prefix.
        prefix: an explicit prefix, for example ``student.``. It may begin with the keys that lead to a state dict.

    Returns:
        Names in the state dict that were not loaded: other networks, key queues, classifiers and projection heads.

    Raises:
        InputError: if the file is missing or damaged, holds anything but tensors and plain containers, or has a tensor
            without plain finite numbers. If several networks match equally well. If none matches, with the nearest
            match in the message. In each case nothing is loaded.
    """
    path = Path(path)
    states = read_states(path)
    wanted = _wanted(layout, prefix)
    # Try the backbone's own names first, then those of the module it wraps: exports use the library's names.
    targets: list[nn.Module] = [backbone]
    if backbone.plain_module is not backbone:
        targets.append(backbone.plain_module)
    found = [each for target in targets for each in _candidates(target, states)]
    asked = [each for each in found if wanted is None or _below(each, wanted)]
    if not asked:
        _refuse_nothing_found(path, backbone, wanted, found)
    fitting = [each for each in asked if each.fits and each.target is backbone] or [each for each in asked if each.fits]
    if wanted is not None:  # a candidate at exactly the given prefix wins
        fitting = [each for each in fitting if wanted in (each.path, each.prefix)] or fitting
    if not fitting:
        _refuse_misfit(path, backbone, max(asked, key=lambda each: each.nearness), states)
    chosen = _one_of(fitting, states, path)
    state = states[chosen.place]
    given, converted = _tensors(chosen, state, path)
    chosen.target.load_state_dict(given)
    used = set(chosen.names.values())
    left_out = [name for name in state if name not in used]
    _log_loaded(path, chosen, fitting, left_out, converted)
    return left_out


def _wanted(layout: str, prefix: str | None) -> Name | None:
    if layout not in ("auto", *_PREFIXES):
        raise InputError(f"no layout {layout!r} of weights{did_you_mean(layout, ['auto', *_PREFIXES])}")
    if prefix is not None and layout != "auto":
        raise InputError(f"layout {layout!r} and prefix {prefix!r} exclude each other: give one of them")
    if prefix is None and layout == "auto":
        return None
    given = _PREFIXES[layout] if prefix is None else prefix
    return tuple(part for part in given.split(".") if part and part not in _WRAPPERS)


def _below(candidate: _Candidate, wanted: Name) -> bool:
    """Whether the candidate's path continues with the wanted prefix, starting at any key of its place."""
    if not wanted:
        return not candidate.prefix
    starts = range(len(candidate.place) + 1)
    return any(candidate.path[start : start + len(wanted)] == wanted for start in starts)


def _plain(name: str) -> Name:
    return tuple(_SPELLINGS.get(part, part) for part in name.split(".") if part not in _WRAPPERS)


def _candidates(target: nn.Module, states: Mapping[Name, State]) -> list[_Candidate]:
    """Candidates for every prefix in every state dict that stands before one of the target's names.

    If none fits, candidates whose names number the target's children are added.
    """
    own = dict(target.state_dict())
    by_plain = {_plain(name): name for name in own}
    if len(by_plain) < len(own):  # the network itself has parts called `module` or `_orig_mod`
        by_plain = {tuple(name.split(".")): name for name in own}
    found = _below_prefixes(target, own, by_plain, states)
    if any(each.fits for each in found):
        return found
    # `nn.Sequential(*resnet.children())`, as in lightly's examples, numbers the children.
    numbers = {name: str(number) for number, (name, _) in enumerate(target.named_children())}
    numbered = {(numbers.get(parts[0], parts[0]), *parts[1:]): name for parts, name in by_plain.items()}
    return found + [each for each in _below_prefixes(target, own, numbered, states) if each.fits]


def _below_prefixes(
    target: nn.Module, own: Mapping[str, Tensor], by_plain: Mapping[Name, str], states: Mapping[Name, State]
) -> list[_Candidate]:
    found = []
    for place, state in states.items():
        plain = {name: _plain(name) for name in state}
        known: Counter[Name] = Counter()
        for parts in plain.values():
            known.update(parts[:cut] for cut in range(len(parts)) if parts[cut:] in by_plain)
        for prefix in known:
            below = {parts[len(prefix) :]: name for name, parts in plain.items() if parts[: len(prefix)] == prefix}
            found.append(_candidate(place, prefix, target, own, by_plain, below, state))
    return found


def _candidate(
    place: Name,
    prefix: Name,
    target: nn.Module,
    own: Mapping[str, Tensor],
    by_plain: Mapping[Name, str],
    below: Mapping[Name, str],
    state: State,
) -> _Candidate:
    names = {by_plain[parts]: name for parts, name in below.items() if parts in by_plain}
    # A backbone may keep part of its "head" (ConvNeXt's last norm), so its own names are matched before head names.
    others = {parts: name for parts, name in below.items() if parts not in by_plain}
    heads = [name for parts, name in others.items() if _HEAD.search(parts[0])]
    return _Candidate(
        place,
        tuple(prefix),
        target,
        names,
        heads,
        # Files from before torch 0.4.1 lack the batch counters, which are not needed.
        missing=sorted(name for name in own if name not in names and not name.endswith(_COUNTER)),
        unexpected=sorted(".".join(parts) for parts, name in others.items() if name not in heads),
        reshaped=[
            f"{name} {tuple(state[names[name]].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in names and state[names[name]].shape != own[name].shape
        ],
    )


def _one_of(fitting: list[_Candidate], states: Mapping[Name, State], path: Path) -> _Candidate:
    distinct: list[_Candidate] = []
    for each in fitting:  # a file may hold one network under two names: BYOL's `net.` and `online_encoder.net.`
        if not any(_equal(each, other, states) for other in distinct):
            distinct.append(each)
    trained = [each for each in distinct if not any(map(_SLOW.search, each.path))]
    left = trained or distinct
    if len(left) > 1 and (teachers := [each for each in left if any("teacher" in part for part in each.path)]):
        students = [each for each in left if any("student" in part for part in each.path)]
        if len(teachers) + len(students) == len(left):
            left = teachers
    if len(left) > 1:
        shown = ", ".join(repr(each.shown) for each in left[:4])
        raise InputError(
            f"weights {str(path)!r} hold {len(left)} networks that fit ({shown}{', …' if len(left) > 4 else ''}): "
            "select one with prefix (`weights_prefix:` in a configuration, --weights-prefix in a command)"
        )
    return left[0]


def _equal(one: _Candidate, other: _Candidate, states: Mapping[Name, State]) -> bool:
    first, second = states[one.place], states[other.place]
    return one.names.keys() == other.names.keys() and all(
        first[one.names[name]] is second[other.names[name]]
        or (not _unusable(first[one.names[name]]) and torch.equal(first[one.names[name]], second[other.names[name]]))
        for name in one.names
    )


def _tensors(chosen: _Candidate, state: State, path: Path) -> tuple[State, list[str]]:
    """The tensors to load, in the target's dtypes, and one sentence for each conversion."""
    given: State = {}
    converted: Counter[str] = Counter()
    for name, own in chosen.target.state_dict().items():
        tensor = state[chosen.names[name]] if name in chosen.names else own
        reason = _unusable(tensor)
        if not reason and own.is_floating_point() and not tensor.is_floating_point():
            reason = f"has type {_type(tensor)}: give floating-point weights"
        elif not reason and tensor.dtype != own.dtype and own.is_floating_point():
            converted[f"{_type(tensor)} to {_type(own)}"] += 1
        if not reason:
            given[name] = tensor.to(own.dtype)
            if name in chosen.names and not bool(given[name].isfinite().all()):
                reason = "holds NaN or infinity: give another checkpoint"
        if reason:
            raise InputError(f"weights {str(path)!r}: {chosen.names[name]!r} {reason}")
    return given, [f"{count} tensors converted from {types}" for types, count in converted.items()]


def _unusable(tensor: Tensor) -> str:
    """Why a tensor has no plain numbers; empty if it has."""
    if tensor.is_meta:
        return "is on the meta device, which holds no values: save the network after initialisation"
    if tensor.is_quantized:
        return f"is quantised ({_type(tensor)}): save it after dequantize()"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"has the layout {str(tensor.layout).removeprefix('torch.')}: save it after to_dense()"
    if tensor.is_complex():
        return f"has type {_type(tensor)}: give floating-point weights"
    return ""


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refuse_nothing_found(path: Path, backbone: Backbone, wanted: Name | None, found: list[_Candidate]) -> None:
    architecture = backbone.describe()["architecture"]
    if wanted is None or not found:
        raise InputError(
            f"weights {str(path)!r} do not fit {architecture}: no name in the file is one of the network's"
        )
    offered = ", ".join(repr(each.shown) for each in sorted(found, key=lambda each: each.nearness)[:-4:-1])
    asked = "".join(f"{part}." for part in wanted)
    raise InputError(
        f"weights {str(path)!r}: no name begins with {asked!r} followed by names of {architecture}: leave out layout "
        f"and prefix, or give a prefix of the file: {offered}"
    )


def _refuse_misfit(path: Path, backbone: Backbone, nearest: _Candidate, states: Mapping[Name, State]) -> None:
    complaints = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (
            ("missing", nearest.missing),
            ("unexpected", nearest.unexpected),
            ("of another shape", nearest.reshaped),
        )
        if names
    ]
    where = f" (nearest fit: the names below {nearest.shown!r})" if nearest.path else ""
    raise InputError(
        f"weights {str(path)!r} do not fit {backbone.describe()['architecture']}{where}: {'; '.join(complaints)}: set "
        "name, stem, base_width, channels and image_size to the values the weights were trained with"
    )


def _log_loaded(
    path: Path, chosen: _Candidate, fitting: list[_Candidate], left_out: list[str], converted: list[str]
) -> None:
    others = sorted({each.shown for each in fitting} - {chosen.shown})
    notes = [f"read from the names below {chosen.shown!r}"] if chosen.prefix or others else []
    if others:
        notes.append(f"{', '.join(map(repr, others))} {'fits' if len(others) == 1 else 'fit'} too (choose by prefix)")
    if chosen.heads:
        parts = sorted({".".join(_plain(name)[: len(chosen.prefix) + 1]) for name in chosen.heads})
        notes.append(f"heads left out: {', '.join(parts)}")
    if further := len(left_out) - len(chosen.heads):
        notes.append(f"{further} further tensors left out")
    if notes or converted:
        _log.warning("weights %r: %s", str(path), "; ".join([*notes, *converted]))
