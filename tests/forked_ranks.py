"""torchrun with ranks that are forked from a process that has loaded everything: loading is most of
what a rank of a test takes.

torchrun is the real one. Only how it starts a rank is another: a process that waits, forked before
torchrun has threads, gets the words and the environment that it would have been started with.
"""

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

from benchmarks.campaign.hand import Job, settle

MOST_RANKS = 3


class Waiting:
    """A process that waits to become a rank; as torchrun sees it, a `subprocess.Popen`."""

    def __init__(self, earlier: Sequence["Waiting"]) -> None:
        source, self._sink = os.pipe()
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            for end in (self._sink, *(other._sink for other in earlier)):
                os.close(end)
            _become_rank(source)
        os.close(source)

    def start(self, words: Sequence[str], environment: Mapping[str, str]) -> "Waiting":
        """Lets it become the rank."""
        with open(self._sink, "w") as sink:
            json.dump({"words": words, "environment": dict(environment)}, sink)
        return self

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a rank", timeout or 0.0)
            time.sleep(0.02)
        return code


def _become_rank(source: int) -> None:
    """Waits for words and an environment, then runs the module or script that they name."""
    os.setsid()
    with open(source) as told:
        text = told.read()
    if not text:  # torchrun needs fewer ranks, or has ended
        os._exit(0)
    job: dict[str, Any] = json.loads(text)
    os.environ.clear()
    os.environ.update(job["environment"])
    Path("/proc/self/comm").write_text(name_of(int(os.environ["RANK"])))
    words = [word for word in job["words"][1:] if word != "-u"]
    is_module = words[0] == "-m"
    target, *sys.argv[1:] = words[is_module:]
    if is_module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")
    sys.exit()


def name_of(rank: int) -> str:
    """The name that the process of a rank has."""
    return f"rank {rank}"


def torchrun(job: Job) -> None:
    """Turns this process into torchrun with the words of the job."""
    words = settle(job)
    waiting: list[Waiting] = []
    for _ in range(MOST_RANKS):
        waiting.append(Waiting(waiting))
    left = iter(waiting)
    SubprocessHandler._popen = lambda _self, args, env: next(left).start(args, env)  # type: ignore[assignment, method-assign, return-value]
    run.main(["--standalone", "--local-addr", "127.0.0.1", *words])
