"""How a serving process has its memory managed."""

import ctypes
from typing import Final

# glibc's malloc.h. By default a buffer of 128 KiB or more is mapped for each use and unmapped after it, so that every
# piece of a body costs its page faults: 40,000 of them for a GiB, a sixth of what carrying it costs.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 4 << 20  # free memory that is not given back
BUFFER_BYTES: Final = 1 << 20  # the event loop reads 256 KiB at a time


def keep_buffers() -> bool:
    """Have the buffers that bodies pass through used again; say whether this C library can be told so."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl, macOS
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, BUFFER_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
