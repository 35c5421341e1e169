"""Lazy import of FAISS, and its settings for CPU threads and CUDA."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch

__all__ = ["faiss_library", "on_cuda", "with_torch_threads"]


def with_torch_threads() -> Any:
    """Import FAISS and set its OpenMP thread count to torch's.

    FAISS has its own thread pool, which does not follow `torch.set_num_threads`.

    Returns:
        The ``faiss`` module.
    """
    faiss = faiss_library()
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


@functools.cache
def faiss_library() -> Any:
    """Import FAISS on first use and return the ``faiss`` module."""
    # Not imported at the top of this file: the import takes a second, and most commands never search.
    faiss = importlib.import_module("faiss")
    # By default faiss searches without BLAS where b · d < 128,000, which is slower; 1 enables BLAS for all sizes.
    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


@functools.cache
def on_cuda(temporary_bytes: int) -> tuple[Any, Any]:
    """Import FAISS for CUDA tensors, and allocate the GPU resources of this process's searches.

    Args:
        temporary_bytes: device memory that a search may allocate, in bytes.

    Returns:
        The ``faiss`` module, whose ``knn_gpu`` then accepts CUDA tensors, and a ``StandardGpuResources``.
    """
    faiss = faiss_library()
    importlib.import_module("faiss.contrib.torch_utils")  # lets faiss.knn_gpu accept tensors on torch's stream
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(temporary_bytes)
    return faiss, resources
