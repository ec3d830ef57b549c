"""`semseg-cli`, and `python -m semseg_cli`."""

import gc
import signal
import sys

# New objects before Python looks for garbage. Its own 700 is met some 400 times in a warm start, a
# second and a half of it; a long run makes few, and holds no more memory (benchmarks/NOTES.md).
NEW_OBJECTS = 50_000


def main() -> None:
    """Runs the command line. Until it listens itself, a Ctrl-C ends the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(NEW_OBJECTS, 20, 20)
    from semseg_cli.cli import run
    from semseg_cli.progress import own_process

    try:
        with own_process():
            run()
    finally:
        if "triton" not in sys.modules:  # which would print what is left as leaks
            gc.freeze()  # else Python ends by looking for garbage in all of torch, for seconds


if __name__ == "__main__":
    main()
