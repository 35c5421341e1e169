"""FAISS, imported when it is first needed."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch

__all__ = ["faiss_library", "on_cuda", "with_torch_threads"]


def with_torch_threads() -> Any:
    """The faiss module, told to take as many threads as torch does: its pool is its own."""
    faiss = faiss_library()
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


@functools.cache
def faiss_library() -> Any:
    """The faiss module."""
    # Not at the top: it takes a second to import, and most commands search nothing.
    faiss = importlib.import_module("faiss")
    # By default faiss searches without BLAS where b · d < 128,000, the slower way.
    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


@functools.cache
def on_cuda(temporary_bytes: int) -> tuple[Any, Any]:
    """The faiss module that takes CUDA tensors, and the resources of this process's searches.

    Args:
        temporary_bytes: device memory that a search may take.
    """
    faiss = faiss_library()
    importlib.import_module("faiss.contrib.torch_utils")  # it teaches faiss.knn_gpu to take tensors, on torch's stream
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(temporary_bytes)
    return faiss, resources
