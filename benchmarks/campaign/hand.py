"""Commands in processes of their own, forked from one that has loaded everything.

Loading is most of what a short command takes, and the same every time. A command whose loading is
to be disturbed too is started cold.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOADED = (
    "torch", "pyarrow.parquet", "transformers.models.auto.modeling_auto",
    "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers",
    "sqlalchemy", "alembic", "mlflow.tracking.client", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.artifact_repository_registry", "semseg_cli.cli",
    "semseg_cli.commands.intervene", "semseg_cli.commands.lookup", "semseg_cli.commands.stats",
    "semseg_cli.commands.suite.command", "semseg_cli.commands.compare.command",
)  # fmt: skip
QUIET = {"MLFLOW_LOGGING_LEVEL": "CRITICAL"}  # as the program sets it before mlflow loads
OUT, ERR = "out.txt", "err.txt"
THIS = ("-m", "benchmarks.campaign.hand")
MOST_SECONDS = 600.0  # of a command that nothing disturbs, on a busy machine


class Started(Protocol):
    """A command that runs."""

    pid: int

    def wait(self, seconds: float) -> int | None:
        """Its exit code, as subprocess has it; None where it has not ended by then."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and after how long."""

    code: int | None
    err: str
    seconds: float


class Hand:
    """Starts commands, one at a time, in the environment that it is given.

    `program` is what Python runs to load everything and to fork: something that calls `serve`.
    """

    def __init__(self, environment: Mapping[str, str], program: Sequence[str] = THIS) -> None:
        self.environment = dict(environment)
        self._rest = b""
        self._server = subprocess.Popen(
            [sys.executable, *program], env=_finding(environment) | QUIET,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._line(MOST_SECONDS)  # it is ready

    def close(self) -> None:
        """Starts nothing more."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(
        self, words: Sequence[str], folder: Path, *, cold: bool = False, most: int = 0
    ) -> Started:
        """Starts `semseg-cli WORDS` in a folder, which gets what it prints; its files may have
        `most` bytes each, where that is not 0."""
        job = {"words": list(words), "folder": str(folder), "most": most}
        if cold:
            return _Cold(job, self.environment)
        self._send(json.dumps(job))
        return _Warm(self, int(self._line(MOST_SECONDS) or b""))

    def run(self, words: Sequence[str], folder: Path) -> Ended:
        """Runs a command to its end."""
        began = time.monotonic()
        started = self.start(words, folder)
        code = started.wait(MOST_SECONDS)
        if code is None:
            finish(started)
        return Ended(code, (folder / ERR).read_text("utf-8"), time.monotonic() - began)

    def _send(self, text: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(text.encode() + b"\n")
        self._server.stdin.flush()

    def _line(self, seconds: float) -> bytes | None:
        """The next line of the server; None where there is none by then."""
        assert self._server.stdout is not None
        number, end = self._server.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            if not select.select([number], [], [], left)[0]:
                return None
            more = os.read(number, 4096)
            if not more:
                raise RuntimeError("The process that starts commands has ended.")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class _Warm:
    def __init__(self, hand: Hand, pid: int) -> None:
        self.hand, self.pid = hand, pid

    def wait(self, seconds: float) -> int | None:
        line = self.hand._line(seconds)
        return None if line is None else int(line)


class _Cold:
    def __init__(self, job: Mapping[str, object], environment: Mapping[str, str]) -> None:
        code = f"from benchmarks.campaign.hand import become; become({job!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env=_finding(environment), start_new_session=True
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
    """Sends a signal, where the command has not ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.pid, number)


def finish(started: Started) -> None:
    """Kills what did not end by itself."""
    tell(started, signal.SIGKILL)
    started.wait(MOST_SECONDS)


def settle(job: Mapping[str, object]) -> list[str]:
    """Gives this process the command's folder, files and limits; the words that were typed."""
    folder = str(job["folder"])
    os.chdir(folder)
    for number, name in ((1, OUT), (2, ERR)):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    for number in (signal.SIGHUP, signal.SIGTERM):  # under nohup it would rightly be ignored
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if most := int(str(job["most"])):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return [str(word) for word in job["words"]]  # type: ignore[attr-defined]


def become(job: Mapping[str, object]) -> None:
    """Turns this process into the command."""
    sys.argv = ["semseg-cli", *settle(job)]
    from semseg_cli.__main__ import main

    main()


def serve(
    become: Callable[[Mapping[str, object]], None] = become, loaded: Sequence[str] = LOADED
) -> None:
    """Loads everything, and then forks a process for every job on stdin: prints its id, and when it
    has ended its exit code."""
    for name in loaded:
        importlib.import_module(name)
    gc.freeze()  # else every process looks through all of it when it ends: 5 times the work
    print("ready", flush=True)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            os.setsid()
            become(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
