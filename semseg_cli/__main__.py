"""`python -m semseg_cli`."""

from semseg_cli.cli import run

if __name__ == "__main__":
    run()
