"""Lightning callbacks of a run: records, metrics, checkpoints, loggers, status and checks."""

from contrast.callbacks.bank_recorder import BankRecorder
from contrast.callbacks.checkpoints import AtomicCheckpoints, Checkpoints
from contrast.callbacks.loggers import Mirror
from contrast.callbacks.metrics import Metrics
from contrast.callbacks.online_knn import OnlineKNN
from contrast.callbacks.pairs import FlaggedPairs, PairRecorder
from contrast.callbacks.recorder import Recorder
from contrast.callbacks.resumed import ResumedRecords
from contrast.callbacks.status import DoctorLog, RunStatus
from contrast.callbacks.training import FiniteLoss, Inactive, Progress, StepRandomness

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
