"""Let glibc keep the memory of large tensors instead of handing it back to the kernel after every operation.

By default each tensor of more than 32 MiB (at first: 128 KiB) is mapped, faulted in page by page and unmapped again:
convolutions here took two to four times as long for it (docs/log.md). Nothing is done where the user has tuned malloc.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KERNELS = 50  # a batch meets a few dozen layers, so that more would serve other shapes than those of now
KEEP_BYTES = 1 << 30  # glibc takes at most half the address space of a heap: 32 MiB for mmap, unless set by hand


@cache
def keep_memory() -> bool:
    """Raise the thresholds of this process, once; whether that could be done."""
    tuned = any(name.startswith("MALLOC_") for name in os.environ) or "jemalloc" in os.environ.get("LD_PRELOAD", "")
    if tuned or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP_BYTES) and mallopt(M_TRIM_THRESHOLD, KEEP_BYTES))


def give_back() -> None:
    """Hand back to the kernel what nothing uses any more: between trainings of a large network, which hold gigabytes."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def keep_few_kernels() -> None:
    """Bound what oneDNN and ideep keep, a kernel for each shape; for a server, and before torch is imported.

    By default each keeps 1,024, about a megabyte each: a server of texts grew by 900 MB in a minute of batches of ever
    other shapes, and was no faster for it (docs/log.md).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS))
