"""`semseg-cli`, and `python -m semseg_cli`."""

import gc
import signal


def main() -> None:
    """Runs the command line. Until it listens itself, a Ctrl-C ends the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from semseg_cli.cli import run

    try:
        run()
    finally:
        gc.freeze()  # else Python ends by looking for garbage in all of torch, for seconds


if __name__ == "__main__":
    main()
