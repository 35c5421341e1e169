"""Memory banks: where negatives from beyond the batch come from."""

from contrast.banks.key_queue import KeyQueue
from contrast.banks.memory_bank import MemoryBank, Negatives

__all__ = ["KeyQueue", "MemoryBank", "Negatives"]
