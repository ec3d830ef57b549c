"""What is done stays done while Python shuts down."""

import subprocess
import sys

import pytest

_ENDS = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), getattr(signal, sys.argv[1])))
from semseg_cli import interrupts
from semseg_cli.ranks.ending import run_to_end
interrupts.listen()
run_to_end(lambda: print("done"))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_after_the_last_step_changes_nothing(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDS, name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
