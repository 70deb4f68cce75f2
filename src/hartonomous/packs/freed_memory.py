"""What becomes of memory that was freed: the C library is to keep it for the next frame."""

import numpy as np

_KEPT_BYTES = 16 * 1024 * 1024


def keep_freed_memory() -> None:
    """Make the C library keep what work on frames frees, instead of giving it back each time.

    Decoding, predicting and checking take and free some megabytes a frame. With its first
    thresholds glibc gives that back to the kernel each time and takes it again page by page, which
    costs half as much as the decoding. Freeing one larger block, of which no page was touched,
    raises them for the whole process (mallopt(3)): at most 32 MiB of free memory stay with each
    arena then.
    """
    np.empty(_KEPT_BYTES, np.uint8)
