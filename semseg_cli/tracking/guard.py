"""Runs a command that ends with its parent: `python guard.py SECONDS COMMAND...`, on a pipe.

The parent holds the other end of the pipe that is stdin, and never writes. However the parent ends,
SIGKILL included, the pipe closes, and the whole process group goes, after these seconds by force.
Run as a file, so that it starts at once: only the standard library in here.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import NoReturn

_ending = threading.Event()


def end_with_parent() -> None:
    """Waits for the pipe to close, then ends the process group: first asked, then made to."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    _ending.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(float(sys.argv[1]))
    os.killpg(0, signal.SIGKILL)


def main() -> NoReturn:
    """Ends with the exit code of the command."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # of the group: this process ends last
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
    threading.Thread(target=end_with_parent).start()
    code = process.wait()
    if _ending.is_set():  # its children may still be there: the other thread ends all
        threading.Event().wait()
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
