"""Callbacks: what watches a run, writes its folder and keeps it safe."""

from contrast.callbacks.bank_recorder import BankRecorder
from contrast.callbacks.checkpoints import AtomicCheckpoints, Checkpoints
from contrast.callbacks.doctor_log import DoctorLog
from contrast.callbacks.finite_loss import FiniteLoss
from contrast.callbacks.flagged import FlaggedPairs
from contrast.callbacks.inactive import Inactive
from contrast.callbacks.metrics import Metrics
from contrast.callbacks.mirror import Mirror
from contrast.callbacks.online_knn import OnlineKNN
from contrast.callbacks.pair_recorder import PairRecorder
from contrast.callbacks.progress import Progress
from contrast.callbacks.recorder import Recorder
from contrast.callbacks.resumed import ResumedRecords
from contrast.callbacks.status import RunStatus
from contrast.callbacks.step_randomness import StepRandomness

__all__ = [
    "AtomicCheckpoints",
    "BankRecorder",
    "Checkpoints",
    "DoctorLog",
    "FiniteLoss",
    "FlaggedPairs",
    "Inactive",
    "Metrics",
    "Mirror",
    "OnlineKNN",
    "PairRecorder",
    "Progress",
    "Recorder",
    "ResumedRecords",
    "RunStatus",
    "StepRandomness",
]
