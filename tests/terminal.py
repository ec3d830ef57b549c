"""Runs the command line in this process, as a user would type it."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow_store import free_port, new_store
from worlds import World

from benchmarks.campaign.hand import (
    ERR,
    MOST_SECONDS,
    OUT,
    Forked,
    Job,
    Started,
    become,
    finish,
    tell,
)
from semseg_cli.cli import run
from semseg_cli.runs.journal import Journal

NO_PLOTS = "SEMSEG_NO_PLOTS"  # set for all tests


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """A working directory to type commands in; the store is its mlflow.db."""

    folder: Path

    def type(self, *args: str) -> Done:
        """Runs `semseg-cli ARGS`."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            run(list(args))
        return Done(int(ended.value.code or 0), _text_of(out), _text_of(err))

    def runs(self) -> list[Path]:
        """The run folders so far, oldest first."""
        return sorted((self.folder / "semseg-runs").glob("*"), key=lambda p: p.stat().st_mtime_ns)


def _text_of(printed: io.TextIOWrapper) -> str:
    printed.seek(0)
    return printed.read()


def ended(process: Started, folder: Path) -> Done:
    """How a command in a process of its own ends, and what it printed in its folder."""
    code = process.wait(MOST_SECONDS)
    if code is None:
        finish(process)
        raise AssertionError("it does not end")
    return Done(code, *((folder / name).read_text() for name in (OUT, ERR)))


@contextmanager
def serving(
    folder: Path, work: Callable[[Job], None] = become, **environment: str
) -> Iterator[tuple[Started, str]]:
    """A `semseg-cli ui` in a process of its own, and the address that it prints."""
    words = ("ui", "--port", str(free_port()))
    process = Forked(work, Job(words, str(folder), {**os.environ, **environment}))
    try:
        yield process, _first_line(process, folder)
    finally:
        tell(process, signal.SIGTERM)
        ended(process, folder)


def _first_line(process: Started, folder: Path) -> str:
    while process.wait(0.05) is None:
        if (folder / OUT).exists() and "\n" in (printed := (folder / OUT).read_text()):
            return printed.partition("\n")[0]
    raise AssertionError((folder / ERR).read_text())


def interrupted(terminal: Terminal, after: int, *args: str) -> str:
    """Types a command that gets Ctrl-C after so many records; what it says."""
    append, written = Journal.append, []

    def interrupting(self: Journal, record: bytes) -> None:
        append(self, record)
        written.append(record)
        if len(written) == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", interrupting)
        done = terminal.type(*args)
    assert done.code == 130, done.err
    return done.err


@contextmanager
def working_in(folder: Path) -> Iterator[Terminal]:
    """A terminal in an empty folder with a new store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        new_store(folder)
        yield Terminal(folder)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # a command was stopped in here
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def drawing() -> Iterator[None]:
    """Here commands draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(NO_PLOTS)
        yield


def options(world: World, **changes: str) -> list[str]:
    """The options that name a world's files; `changes` by option name, "" leaves one out."""
    named = {
        "vit_ckpt": str(world.folder / "vit"),
        "vit_layer": str(world.vit_layer),
        "sae_ckpt": str(world.folder / "sae.pt"),
        "seg_ckpt": str(world.folder / "head.pt"),
        "imgs_root": str(world.data),
        "max_freq": "1.0",
        "batch_size": "4",
        "min_patches": "1",
        "cache_dir": str(world.folder / "cache"),
        **({"act_mean": str(world.stats), "act_norm": "2.0"} if world.stats else {}),
        **changes,
    }
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in named.items() if value)
    return [part for pair in pairs for part in pair]
