"""Memory banks: stores of past keys that supply negatives from outside the batch."""

from contrast.banks.approximate import HNSW, IVF, Approximate
from contrast.banks.bank import MemoryBank, Negatives, Neighbours
from contrast.banks.faiss_bank import FaissBank, Hardest, Mining, Stratified
from contrast.banks.key_queue import KeyQueue
from contrast.banks.key_store import KeyStore

__all__ = [
    "HNSW",
    "IVF",
    "Approximate",
    "FaissBank",
    "Hardest",
    "KeyQueue",
    "KeyStore",
    "MemoryBank",
    "Mining",
    "Negatives",
    "Neighbours",
    "Stratified",
]
