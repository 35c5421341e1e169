"""Run a training from start to end, and report how it ended."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import lightning
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint

from contrast.callbacks import (
    AtomicCheckpoints,
    Checkpoints,
    DoctorLog,
    FiniteLoss,
    FlaggedPairs,
    Inactive,
    Mirror,
    Progress,
    ResumedRecords,
    RunStatus,
    StepRandomness,
)
from contrast.callbacks.logger_calls import guard, missed_calls
from contrast.callbacks.pair_history import PairHistory
from contrast.callbacks.resumed import Resumption
from contrast.callbacks.status import NOTHING
from contrast.callbacks.wandb_run import closed_at_the_end, open_run, with_id
from contrast.commands.building import CALLBACKS, build, check
from contrast.commands.changed_data import ChangedData, changed_data
from contrast.commands.configuration import short
from contrast.commands.resuming import Stored, require_same_batches
from contrast.commands.starting import (
    look_at_input,
    require_monitored,
    require_port,
    time_limit,
    unknown_metric,
    with_measured,
    write_config,
)
from contrast.data import TrainingData
from contrast.data.sources import dead_worker, worker_message
from contrast.errors import InputError, RunStopped, Terminated, files_message
from contrast.losses import PairWeighting
from contrast.losses.labels import LabelTable
from contrast.methods import ContrastiveMethod
from contrast.models.batch_norm import refuse_synchronised
from contrast.records import last_row_per_step, read_rows
from contrast.run_folder import RunFolder
from contrast.runs.next_command import how_to_go_on, resume_command, shell_command, trust_flag
from contrast.runtime import keep_freed_memory

__all__ = ["by_the_first_process", "exceptions_as_messages", "fit", "make_trainer"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_GONE = ("closed by peer", "reset by peer", "Broken pipe")  # gloo's messages about a process that has ended


@contextlib.contextmanager
def exceptions_as_messages(trainer: lightning.Trainer, folder: RunFolder, checkpoint: Path | None) -> Iterator[None]:
    """Context manager around `trainer.fit`: convert exceptions into messages for the user.

    Args:
        trainer: the run's trainer.
        folder: the run folder.
        checkpoint: the checkpoint that the run resumes from, if any.

    Raises:
        InputError: for any mistake in the configuration, the data or the checkpoint.
        RunStopped: if the run ended before its last step.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        yield
    except InputError as error:
        raise InputError(worker_message(error)) from error
    except RuntimeError as error:
        if dead := dead_worker(error):
            raise RunStopped(f"{dead}; at step {trainer.global_step}; {_how_to_continue(folder)}") from error
        if unknown := unknown_metric(error, trainer.callback_metrics, trainer.global_step):
            raise unknown from error
        raise _of_torch(error, trainer, checkpoint) from error
    except MisconfigurationException as error:
        if unknown := unknown_metric(error, trainer.callback_metrics, trainer.global_step):
            raise unknown from error
        raise InputError(f"trainer: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if checkpoint is None or _began(trainer):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"checkpoint {str(checkpoint)!r} lacks state that a resume needs ({reason})") from error
    except OSError as error:
        if error.errno not in _DISK:
            if not _began(trainer):
                raise
            reason = f"{type(error).__name__}: {files_message(error)}"
            raise RunStopped(
                f"the run failed at step {trainer.global_step} ({reason}); {_how_to_continue(folder)}"
            ) from error
        raise _unwritable(error, folder, trainer.global_step) from error
    except SystemExit as error:
        # Lightning converts Ctrl-C into SystemExit and ignores every later Ctrl-C: we restore the handler.
        by = error.__context__
        if not isinstance(by, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, interrupted)
        raise _interrupted(by, folder, trainer.global_step) from error


@contextlib.contextmanager
def by_the_first_process(trainer: lightning.Trainer) -> Iterator[None]:
    """Context manager: if several processes stop for the same reason, only the first process reports it.

    The other processes exit with code 0, because for any other code Lightning kills the first process, which may still
    be printing its message. An error that concerns the data of one process is reported by that process; on a CPU
    (gloo), the first process notices at once that the other has ended.

    Args:
        trainer: the run's trainer.
    """
    try:
        yield
    except RunStopped:
        if trainer.is_global_zero:
            raise
        raise SystemExit(0) from None
    except InputError as error:
        if trainer.is_global_zero or not (dist.is_initialized() and dist.get_backend() == "gloo"):
            raise
        raise RunStopped(str(error), exit_code=0) from error


def _of_torch(error: RuntimeError, trainer: lightning.Trainer, checkpoint: Path | None) -> Exception:
    if trainer.world_size > 1 and any(each in str(error) for each in _GONE):
        return RunStopped("another process of this run has ended: it printed the reason, or it was killed")
    if "loading state_dict" not in str(error):
        return error
    first = " ".join(str(error).split())[:300]
    return InputError(f"{checkpoint} has another architecture than the configuration: {first}")


def _began(trainer: lightning.Trainer) -> bool:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
    return any(callback.began for callback in callbacks if isinstance(callback, ResumedRecords))


def _unwritable(error: OSError, folder: RunFolder, step: int) -> RunStopped:
    kept = f"the last good checkpoint is {folder.last_checkpoint}"
    if not folder.last_checkpoint.exists():
        kept = "no checkpoint had been written yet"
    return RunStopped(
        f"{folder.path} could not be written at step {step} ({error.strerror}); {kept}: make room, then "
        f"{how_to_go_on(folder)}"
    )


def _interrupted(by: KeyboardInterrupt, folder: RunFolder, step: int) -> RunStopped:
    """The exception for a signal outside a training step, or for a second signal: nothing more is saved."""
    number = by.number if isinstance(by, Terminated) else signal.SIGINT
    how = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return RunStopped(f"{how} at step {step}, at once; {_how_to_continue(folder)}", exit_code=128 + number)


def _how_to_continue(folder: RunFolder) -> str:
    if not folder.last_checkpoint.exists():
        kept = "no checkpoint had been written yet"
        # Without rows, `cleared_if_refused` deletes the folder, so there is nothing to continue.
        return f"{kept}: {how_to_go_on(folder)}" if folder.metrics.exists() else kept
    return f"go on from the last checkpoint with: {resume_command(folder)}"


_SHOWN = 4  # maximum number of channels whose mean and std are printed
_MUCH_STATE = 1_000_000_000
"""Bytes of per-sample state above which a run prints the size of its checkpoints."""
_MANY = 2000  # training samples; with fewer, the usual 200 neighbours are too many
_UNFIT = (64, "64", "64-true", "16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def fit(
    parser: jsonargparse.ArgumentParser,
    config: dict[str, Any],
    folder: RunFolder,
    stored: Stored | None = None,
    resumption: Resumption | None = None,
    received: bool = False,
    on_changed_data: bool = False,
) -> None:
    """Build model, data and trainer, and train to the end.

    Args:
        parser: the parser of whole runs.
        config: the resolved configuration, which every checkpoint stores. ``{run}`` in a text stands for the run
            folder.
        folder: the run folder.
        stored: the checkpoint to resume from; None starts from the beginning.
        resumption: records to write once a resumed run has begun.
        received: whether the configuration was read from the run folder without `--trust`.
        on_changed_data: whether to resume with training data that differ from the checkpoint's.

    Raises:
        InputError: for any mistake in the configuration, the data or the checkpoint, and for a resume in which a step
            would see other samples.
        RunStopped: if the run ended before its last step.
    """
    lightning.seed_everything(config["seed_everything"], workers=True, verbose=False)
    placed = _in_folder(config, folder)
    placed["trainer"] = {**placed["trainer"], "logger": with_id(placed["trainer"].get("logger"), folder)}
    built = build(parser, check(parser, placed), received)
    refuse_synchronised(built.model, config["trainer"].get("sync_batchnorm"))
    checkpoint = None if stored is None else stored.path
    if checkpoint is None:
        config = with_measured(config, built.data)
        write_config(folder, config)
    changed = None if checkpoint is None else changed_data(checkpoint, built.model, built.data, on_changed_data)
    trainer = make_trainer(built, config, folder, resumption, changed)
    if stored is not None:  # now the number of processes is known
        require_same_batches(stored, config, trainer.world_size)
    if changed is not None:
        changed.move_records(folder)
    with by_the_first_process(trainer), exceptions_as_messages(trainer, folder, checkpoint), closed_at_the_end(folder):
        if trainer.world_size > 1:
            require_port()
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                open_run(logger)
            print(describe(built.model, built.data, config, folder), file=sys.stderr)
            for note in look_at_input(built.data, folder) if checkpoint is None else []:
                print(f"note    {note}", file=sys.stderr)
        for logger in trainer.loggers:
            guard(logger)
        trainer.fit(built.model, datamodule=built.data, ckpt_path=checkpoint, weights_only=True)
        if not trainer.global_step:
            raise RunStopped(NOTHING)
        if trainer.is_global_zero:
            print(ended(trainer, built.data, folder), file=sys.stderr)


def _in_folder(value: Any, folder: RunFolder) -> Any:
    if isinstance(value, dict):
        return {key: _in_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_folder(item, folder) for item in value]
    return value.replace("{run}", str(folder.path)) if isinstance(value, str) else value


def describe(model: ContrastiveMethod, data: TrainingData, config: dict[str, Any], folder: RunFolder) -> str:
    """Summary of a run before it starts: method, loss, learning rates, data, standardisation and folder.

    Args:
        model: the method.
        data: the training data.
        config: the resolved configuration.
        folder: the run folder.

    Returns:
        The lines of the summary.
    """
    count = sum(parameter.numel() for parameter in model.trained().parameters())
    source = short(config["data"]["init_args"]["train"]["class_path"])
    supervised = [module for module in model.loss.modules() if isinstance(module, LabelTable)]
    labels = "".join(
        f"labels  of {len(each.table):,} samples reach the loss through {each.owner}\n" for each in supervised
    )
    groups = model.describe_rates()
    rates = f"rates   {groups}\n" if groups else ""
    state = _state_by_sample(model, data.train_samples, config)
    return (
        f"method  {type(model).__name__}, {type(model.backbone).__name__} with {model.backbone.width} features, "
        f"{count / 1e6:.2f} M parameters trained\n"
        f"loss    {model.loss.describe()}\n"
        f"{rates}"
        f"{labels}"
        f"data    {source}, {data.train_samples:,} training {data.samples_name}, {data.recipe} of {data.extent}, "
        f"batches of {data.batch_size}\n"
        f"input   {_scale(data)}\n"
        f"{state}"
        f"run     {folder.path}"
    )


def _scale(data: TrainingData) -> str:
    about = data.describe_input()
    numbers = ("[" + ", ".join(f"{value:.4g}" for value in about.get(name, [])[:_SHOWN]) for name in ("mean", "std"))
    more = f", ... {len(about.get('mean', []))} channels]" if len(about.get("mean", [])) > _SHOWN else "]"
    mean, std = (each + more for each in numbers)
    return f"standardised by mean {mean}, std {std}, {'measured' if data.measured() else 'as given'}"


def _state_by_sample(model: ContrastiveMethod, samples: int, config: dict[str, Any]) -> str:
    """A line with the size of the per-sample state in each checkpoint, if it exceeds a gigabyte; otherwise empty."""
    history = PairHistory(1, torch.device("cpu")).state() if config.get("pairs", {}).get("epochs", 1) else {}
    size = samples * sum(tensor.nbytes for tensor in history.values())
    weightings = (piece for piece in model.loss.modules() if isinstance(piece, PairWeighting))
    size += sum(tensor.nbytes for weighting in weightings for tensor in weighting.state_dict().values())
    if size <= _MUCH_STATE:
        return ""
    less = "; --pairs.epochs 0 turns the pair histories off" if history else ""
    each = f"{size / samples:.0f} bytes for each of {samples:,} samples"
    return f"state   {size / 1e9:.1f} GB in each checkpoint, {each}{less}\n"


def ended(trainer: lightning.Trainer, data: TrainingData, folder: RunFolder) -> str:
    """Summary of a finished run: steps, loss, online kNN accuracy, folder, and commands to run next.

    Args:
        trainer: the run's trainer.
        data: the training data.
        folder: the run folder.

    Returns:
        The lines of the summary.
    """
    rows = last_row_per_step(read_rows(folder.metrics))
    reached = f"done    {trainer.global_step:,} step{'s' if trainer.global_step != 1 else ''}"
    losses = [row for row in rows if isinstance(row.get("train/loss"), float)]
    accuracies = [row["online/knn_top1"] for row in rows if isinstance(row.get("online/knn_top1"), float)]
    if losses:
        last = losses[-1]
        of_step = "" if last["step"] == trainer.global_step else f" at step {last['step']:,}"
        reached += f", loss {last['train/loss']:.3f}{of_step}"
    if accuracies:
        reached += f", online kNN {accuracies[-1]:.1%}"
        reached += f" (first measured: {accuracies[0]:.1%})" if len(accuracies) > 1 else ""
    labelled = data.train_labels is not None and data.test_set is not None
    few = ("--neighbours", "20") if data.train_samples < _MANY else ()
    few = ("--neighbours", str(max(1, data.train_samples // 5))) if data.train_samples < 100 else few
    place, trust = folder.path, trust_flag(folder)
    commands = [shell_command("report", place), shell_command("doctor", place)]
    if labelled:
        commands = [shell_command("knn", place, *few, *trust), shell_command("probe", place, *trust), *commands]
    lines = [reached, f"run     {folder.path}"]
    lines += [f"next    {command}" for command in commands]
    if missed := missed_calls(trainer.loggers):
        lines.insert(1, f"warning {missed}: the run folder is complete")
    return "\n".join(lines)


def make_trainer(
    built: Any,
    config: dict[str, Any],
    folder: RunFolder,
    resumption: Resumption | None = None,
    changed: ChangedData | None = None,
) -> lightning.Trainer:
    """Make the Lightning trainer of a run, with this project's callbacks after the user's.

    Args:
        built: the built objects of the configuration.
        config: the resolved configuration.
        folder: the run folder.
        resumption: records to write once a resumed run has begun.
        changed: how the training data differ from the checkpoint's, if they do.

    Raises:
        InputError: if a setting of the trainer is not supported, or Lightning refuses it.
    """
    keep_freed_memory()
    settings = vars(built.trainer)
    given = settings.pop("callbacks") or []
    limit = settings.pop("max_time")  # for Checkpoints: Lightning's own timer would end an epoch early, as if complete
    seconds = None if limit is None else time_limit(limit)
    callbacks = list(given) if isinstance(given, list) else [given]
    require_monitored(callbacks, built.model)
    plugins = settings.pop("plugins") or []
    plugins = plugins if isinstance(plugins, list) else [plugins]
    if not any(isinstance(each, ClusterEnvironment) for each in plugins):
        # Otherwise Lightning may read a cluster job's environment and expect the scheduler to start the processes.
        plugins = [*plugins, LightningEnvironment()]
    ours: list[lightning.Callback] = [
        ResumedRecords(folder, resumption),
        StepRandomness(config["seed_everything"]),
        FiniteLoss(folder),
        FlaggedPairs(folder),
        RunStatus(folder),
        Inactive(folder),
        *(_callback(name, getattr(built, name), folder) for name in CALLBACKS if name != "checkpoints"),
        # After the callbacks whose rows these read.
        Mirror(folder, config),
        DoctorLog(folder),
        Progress(),
        # Last, so that a checkpoint is taken after every other callback has processed the step.
        Checkpoints(folder, config, **vars(built.checkpoints), max_seconds=seconds),
    ]
    settings |= {
        "default_root_dir": folder.path,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # EpochBatches shards the samples over the processes
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,  # applies to Lightning's own logging, which only the progress bar reads
    }
    if settings["precision"] in _UNFIT:
        raise InputError(f"trainer.precision {settings['precision']}: inputs are float32; give 32-true or bf16-mixed")
    if settings["logger"] is None:
        settings["logger"] = False
    if settings["accelerator"] == "cpu" or not torch.cuda.is_available():
        settings["accelerator"] = "cpu" if settings["accelerator"] == "auto" else settings["accelerator"]
    try:
        return lightning.Trainer(
            **settings,
            callbacks=[*callbacks, *ours],
            plugins=[AtomicCheckpoints(folder, None if changed is None else changed.move), *plugins],
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(_of_lightning(error, settings)) from error


def _of_lightning(error: Exception, settings: dict[str, Any]) -> str:
    """Message for settings of the trainer that Lightning refuses, with values that work."""
    text = " ".join(str(error).split())
    fixes = {
        "accelerator": "give --trainer.accelerator cpu or auto",
        "devices": "give --trainer.devices 1 or auto",
        "strategy": "give --trainer.strategy auto or ddp",
    }
    fixes["accelerator"] += "" if torch.cuda.is_available() else "; torch finds no CUDA device here"
    named = next((name for name in ("strategy", "devices", "accelerator") if repr(settings.get(name)) in text), None)
    mentioned = [name for name in fixes if name in text.lower()]
    named = named or min(mentioned, key=text.lower().find, default=None)
    named = "accelerator" if "backend found" in text else named
    if named is None:
        return f"trainer: {text}"
    return f"trainer.{named} {settings.get(named)}: {text.rstrip('.!')}: {fixes[named]}"


def _callback(name: str, settings: Any, folder: RunFolder) -> lightning.Callback:
    return CALLBACKS[name](folder=folder, **vars(settings))  # type: ignore[call-arg]  # each takes the folder first
