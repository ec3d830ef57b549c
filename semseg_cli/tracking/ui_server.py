"""MLflow's server as a child process on this machine alone. No mlflow in here."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

from semseg_cli.errors import SemsegError
from semseg_cli.interrupts import held
from semseg_cli.settings.output import PORT
from semseg_cli.tracking import guard
from semseg_cli.tracking.credentials import scrubbed
from semseg_cli.tracking.store_address import for_mlflow, public

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 5.0
# One process is enough for one reader.
COMMAND: tuple[str, ...] = (
    sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1",
)  # fmt: skip
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def choose_port(wanted: int | None) -> int:
    """The port asked for; else MLflow's own one, or a free one where that is taken.

    Raises:
        SemsegError: the port asked for is in use, or not ours to take.
    """
    problem = _why_not(wanted or PORT)
    if problem is None:
        return wanted or PORT
    if wanted is not None:
        raise SemsegError(
            f"Port {wanted} of {HOST} cannot be taken ({problem}): give another --port, or leave "
            "it out to take a free one."
        )
    while True:
        with socket.socket() as any_port:
            any_port.bind((HOST, 0))
            port = int(any_port.getsockname()[1])
        if _claim(port):
            return port


def _why_not(port: int) -> str | None:
    """Why a port cannot be listened at; None if it can."""
    with socket.socket() as tried:
        # As the server does it: a port whose last connection is just closing is free.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return None if _claim(port) else "another semseg-cli ui is about to listen there"


def _claim(port: int) -> bool:
    """Takes a port among a user's processes until this one ends: a server is bound to it late, and
    who came first would show the other's pages."""
    path = Path(tempfile.gettempdir()) / f"semseg-cli-ui-{os.getuid()}-{port}.lock"
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # nowhere to say so
        return True
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return False
    return True  # the file stays open: closing it would give the port back


@contextmanager
def serving(uri: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A server of the store at this port: it answers when the block begins and ends with it.

    Raises:
        SemsegError: the server ended by itself, or did not answer in time.
    """
    process = None
    with tempfile.TemporaryFile() as output:
        try:
            with held():  # a Ctrl-C in here would leave a server behind
                process = _start(uri, port, output.fileno())
            _wait_until_it_answers(process, port)
            yield process
            if process.poll() is not None:
                raise _Ended
        except _Ended as error:
            raise SemsegError(
                f"MLflow's server of {public(uri)} has ended by itself ({_last_line(output)}): "
                "`mlflow server` says more."
            ) from error
        finally:
            if process is not None:
                _stop(process)


class _Ended(Exception):
    """The server is not running any more."""


def _start(uri: str, port: int, output: int) -> "subprocess.Popen[bytes]":
    # The address goes through the environment: it may hold a password, and others see arguments.
    environment = {**os.environ, **ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": for_mlflow(uri)}
    return subprocess.Popen(
        [sys.executable, guard.__file__, str(STOP_SECONDS), *COMMAND, "--port", str(port)],
        env=environment,
        stdin=subprocess.PIPE,  # it closes however this process ends, and so ends the server
        stdout=output, stderr=output, start_new_session=True,
    )  # fmt: skip


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int) -> None:
    direct = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _Ended
        with contextlib.suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
            return
        time.sleep(0.1)
    raise SemsegError(
        f"MLflow's server has not answered within {START_SECONDS:g} s: is the machine busy? "
        "Try again."
    )


def _last_line(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    return scrubbed(lines[-1]).strip()[:200] if lines else "it said nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the server and the processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    if process.stdin is not None:
        process.stdin.close()
