"""`semseg-cli`, and `python -m semseg_cli`."""

import ctypes
import gc
import signal
import sys

# New objects before Python looks for garbage. Its own 700 is met some 400 times in a warm start, a
# second and a half of it; a long run makes few, and holds no more memory (benchmarks/NOTES.md).
NEW_OBJECTS = 50_000
# What glibc keeps of freed memory. By itself it keeps twice the largest tensor: each pass through
# the network then gets its pages anew, a second of a warm run (benchmarks/NOTES.md).
KEPT_BYTES = 256 * 2**20
LARGEST_KEPT = 32 * 2**20  # of one tensor: more than a pass on a CPU makes, and glibc's own bound
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_memory() -> None:
    """Lets the C library keep what is freed for what comes next; where it is another one, as it
    is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)


def main() -> None:
    """Runs the command line. Until it listens itself, a Ctrl-C ends the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(NEW_OBJECTS, 20, 20)
    keep_memory()
    from semseg_cli.cli import run
    from semseg_cli.progress import own_process

    with own_process():
        run()


if __name__ == "__main__":
    main()
