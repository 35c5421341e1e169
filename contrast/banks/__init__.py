"""Memory banks: where negatives from beyond the batch come from."""

from contrast.banks.approximate_search import HNSW, IVF, Approximate
from contrast.banks.faiss_bank import FaissBank
from contrast.banks.key_queue import KeyQueue
from contrast.banks.key_store import KeyStore
from contrast.banks.memory_bank import MemoryBank, Negatives
from contrast.banks.mining import Hardest, Mining, Stratified
from contrast.banks.neighbours import Neighbours

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
