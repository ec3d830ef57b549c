"""Commands in processes of their own, forked from one that has loaded everything.

Loading is most of what a short command takes, and the same every time. A command whose loading is
to be disturbed too is started cold.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver, get_context, set_start_method
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

# What the process that forks has in its environment: libraries look at some of it when they load.
FORKING = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # as the program sets it before mlflow loads
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}  # fmt: skip
OUT, ERR = "out.txt", "err.txt"
MOST_SECONDS = 600.0  # of a command that nothing disturbs, on a busy machine


class Started(Protocol):
    """A command that runs."""

    @property
    def pid(self) -> int:
        """Its process, which leads a group of its own."""

    def wait(self, seconds: float) -> int | None:
        """Its exit code, as subprocess has it; None where it has not ended by then."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and after how long."""

    code: int | None
    err: str
    seconds: float


@dataclass(frozen=True)
class Job:
    """Words that are typed in a folder, which gets what they print, in this environment or another;
    files may have `most` bytes each, where that is not 0."""

    words: tuple[str, ...]
    folder: str
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    most: int = 0


class Forked:
    """A process that has loaded everything and does some work: a module's function."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        self._process = fork_server().Process(target=_lead, args=(work, *args))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Its exit code, as subprocess has it; None where it has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode


@cache
def fork_server() -> ForkServerContext:
    """Python's, one for this process: it has loaded everything, and ends with this process."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.campaign.loaded"])
    own = dict(os.environ)
    os.environ.update(_finding(own) | FORKING)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(own)
    return context


def _lead(work: Callable[..., None], *args: Any) -> None:
    os.setsid()
    set_start_method(None, force=True)  # how a command's own processes start is as ever
    work(*args)


@dataclass(frozen=True)
class Hand:
    """Starts commands in the environment that it is given."""

    environment: Mapping[str, str]

    def start(
        self, words: Sequence[str], folder: Path, *, cold: bool = False, most: int = 0
    ) -> Started:
        """Starts `semseg-cli WORDS` in a folder."""
        job = Job(tuple(words), str(folder), dict(self.environment), most)
        return _Cold(job) if cold else Forked(become, job)

    def run(self, words: Sequence[str], folder: Path) -> Ended:
        """Runs a command to its end."""
        began = time.monotonic()
        started = self.start(words, folder)
        code = started.wait(MOST_SECONDS)
        if code is None:
            finish(started)
        return Ended(code, (folder / ERR).read_text("utf-8"), time.monotonic() - began)


class _Cold:
    def __init__(self, job: Job) -> None:
        code = f"from benchmarks.campaign.hand import Job, become; become({job!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env=_finding(job.environment), start_new_session=True
        )
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _finding(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which Python finds this module from any folder."""
    own = str(Path(__file__).parents[2])
    return {**environment, "PYTHONPATH": os.pathsep.join([own, environment.get("PYTHONPATH", "")])}


def tell(started: Started, number: int) -> None:
    """Sends a signal, where the command has not ended: its number may be another process's then."""
    if started.wait(0) is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, number)


def finish(started: Started) -> None:
    """Kills what did not end by itself."""
    tell(started, signal.SIGKILL)
    started.wait(MOST_SECONDS)


def settle(job: Job) -> list[str]:
    """Gives this process the job's folder, environment, files and limits; the words."""
    os.environ.clear()
    os.environ.update(job.environment)
    os.chdir(job.folder)
    for number, name in ((1, OUT), (2, ERR)):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    for number in (signal.SIGHUP, signal.SIGTERM):  # under nohup it would rightly be ignored
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if job.most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.most, job.most))
    return list(job.words)


def become(job: Job) -> None:
    """Turns this process into the command."""
    sys.argv = ["semseg-cli", *settle(job)]
    from semseg_cli.__main__ import main

    main()
