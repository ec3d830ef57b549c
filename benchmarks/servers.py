"""Tracking stores that go wrong: told in a sentence, in time, and no result is lost.

`python -m benchmarks servers` runs 60 commands against servers that drip, hang, lie, refuse, stop
in the middle, and against databases that are locked or none.
"""

import contextlib
import functools
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.campaign import trials
from benchmarks.campaign.bad_servers import (
    OK,
    Answer,
    Half,
    answering,
    drip,
    drip_header,
    hang,
    own_tls,
    speaking,
)
from benchmarks.campaign.hand import ERR, Ended, Hand, finish
from benchmarks.campaign.trials import LONGEST, Case, Trial, require_marked, require_usable
from benchmarks.campaign.world import World

Draw = np.random.Generator
Open = Callable[[Draw, Path], AbstractContextManager[str]]
RIGHT = 10**6  # requests: for ever
CODES = (302, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504)
TEXTS = (b"{}", b"[]", b"null", b"<html>", b"\xff\xfe{", b"[" * 5000, b'{"experiments": 5}', b"",
         b'{"experiments": [{}]}', b'{"experiments": [{"experiment_id": 1e999}]}')  # fmt: skip
NO_ADDRESSES = ("localhost:5000", "htp://127.0.0.1:5000", "ftp://127.0.0.1", "http://",
                "http://127.0.0.1:99999", "mysql+nodriver://127.0.0.1/x", "postgresql://",
                "http://[::1", "databricks-x://y", "sqlite://", "\x1b[2K://x")  # fmt: skip
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"
NO_DATABASES = (b"text", b"", b"SQLite format 3\0" + bytes(200))


def status(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Every request gets the same status."""
    code = int(draw.choice(CODES))
    return answering(lambda *_: (code, "/login" if code == 302 else "text/plain", b"x"))


def text(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Every request gets the same text."""
    said = TEXTS[int(draw.integers(len(TEXTS)))]
    return answering(lambda *_: (200, OK, said))


def connection(first: Callable[[socket.socket], object]) -> Open:
    """The same happens on every connection."""
    return lambda *_: speaking(first)


@contextmanager
def https_of_http(_draw: Draw, _: Path) -> Iterator[str]:
    """The address says TLS, the server has none."""
    with answering(Half(RIGHT, None)) as uri:
        yield uri.replace("http:", "https:")


def http_of_https(_draw: Draw, place: Path) -> AbstractContextManager[str]:
    """The server has TLS, the address does not say so."""
    return answering(Half(RIGHT, None), own_tls(place))


@contextmanager
def untrusted(_draw: Draw, place: Path) -> Iterator[str]:
    """A certificate that nobody trusts."""
    with answering(Half(RIGHT, None), own_tls(place)) as uri:
        yield uri.replace("http:", "https:")


def no_address(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """What is no address of a store."""
    return contextlib.nullcontext(NO_ADDRESSES[int(draw.integers(len(NO_ADDRESSES)))])


@contextmanager
def nothing(_draw: Draw, _: Path) -> Iterator[str]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def no_host(_draw: Draw, _: Path) -> AbstractContextManager[str]:
    """A name without an address."""
    return contextlib.nullcontext("http://no-such-host.invalid:5000")


def wrong_later(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Right at first, then wrong: a status, other text, a dropped connection."""
    wrong: tuple[Answer | None, ...] = (
        (int(draw.choice(CODES[1:])), "text/plain", b"x"), (200, OK, b'{"run": 5}'), None,
    )  # fmt: skip
    return answering(Half(int(draw.integers(2, 25)), wrong[int(draw.integers(len(wrong)))]))


def silent_later(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Right at first, then silent."""
    half = Half(int(draw.integers(2, 25)), None)

    def ask(path: str, body: bytes) -> Answer | None:
        answer = half(path, body)
        if answer is None:
            threading.Event().wait(2 * LONGEST)
        return answer

    return answering(ask)


@contextmanager
def stopped(draw: Draw, _: Path) -> Iterator[str]:
    """Gone after some requests: nobody listens any more."""
    half, until = Half(RIGHT, None), int(draw.integers(2, 25))
    gone = threading.Event()

    def ask(path: str, body: bytes) -> Answer | None:
        if half.asked >= until:
            gone.set()
        return None if gone.is_set() else half(path, body)

    with contextlib.ExitStack() as server:
        uri = server.enter_context(answering(ask))

        def close() -> None:
            gone.wait()
            server.close()

        watch = threading.Thread(target=close, daemon=True)
        watch.start()
        try:
            yield uri
        finally:
            gone.set()
            watch.join()


def slow(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Right, but every answer takes its time."""
    half, seconds = Half(RIGHT, None), draw.uniform(0.05, 0.3)

    def ask(path: str, body: bytes) -> Answer | None:
        threading.Event().wait(seconds)
        return half(path, body)

    return answering(ask)


def no_artifacts(draw: Draw, _: Path) -> AbstractContextManager[str]:
    """Right, but no file can be stored or listed."""
    half, code = Half(RIGHT, None), int(draw.choice((403, 500, 503)))

    def ask(path: str, body: bytes) -> Answer | None:
        return (code, "text/plain", b"x") if "mlflow-artifacts" in path else half(path, body)

    return answering(ask)


@contextmanager
def artifacts_elsewhere(_draw: Draw, place: Path) -> Iterator[str]:
    """A database whose experiment keeps its files where nobody may write."""
    store = place / "elsewhere.db"
    store.write_bytes(empty_store(place))
    with contextlib.closing(sqlite3.connect(store)) as opened, opened:
        opened.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, "
            "last_update_time) VALUES ('semseg', 'file:///proc/none/mlruns', 'active', 1, 1)"
        )
    yield f"sqlite:///{store}"


@contextmanager
def locked(draw: Draw, place: Path, seconds: float = 20 * LONGEST) -> Iterator[str]:
    """A database that another program holds, from some moment on."""
    store = place / "locked.db"
    store.write_bytes(empty_store(place))
    begins, over = draw.choice((0.0, 2.0, 5.0)), threading.Event()
    held = threading.Event()

    def hold() -> None:
        if begins and over.wait(begins):
            return
        with contextlib.closing(sqlite3.connect(store, timeout=LONGEST)) as opened:
            opened.execute("BEGIN EXCLUSIVE")
            held.set()
            over.wait(seconds)
            opened.rollback()

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    if not begins:
        held.wait(LONGEST)
    try:
        yield f"sqlite:///{store}"
    finally:
        over.set()
        holder.join()


@contextmanager
def no_database(draw: Draw, place: Path) -> Iterator[str]:
    """A file that is no database, or half of one; a folder; a place that is not there."""
    at, kind = place / "none.db", int(draw.integers(len(NO_DATABASES) + 3))
    if kind < len(NO_DATABASES):
        at.write_bytes(NO_DATABASES[kind])
    elif kind == len(NO_DATABASES):
        at.write_bytes(empty_store(place)[: int(draw.integers(200, 50_000))])
    elif kind == len(NO_DATABASES) + 1:
        at.mkdir()
    else:
        at = Path("/proc/none/m.db")
    yield f"sqlite:///{at}"


@functools.cache
def _bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def empty_store(place: Path) -> bytes:
    """An empty store, of the world that a place is in."""
    return _bytes_of(World(place.parents[1]).store)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a store. `is_early`: it is seen before anything is computed; `works`: it
    is no reason to fail."""

    name: str
    open: Open
    is_early: bool = True
    works: bool = False


FAULTS = (
    Fault("status", status), Fault("other text", text), Fault("drips", connection(drip)),
    Fault("drips a header", connection(drip_header)), Fault("hangs", connection(hang)),
    Fault("closes", connection(lambda _: None)),
    Fault("no HTTP", connection(lambda c: c.sendall(b"SSH-2.0-OpenSSH_9\r\n"))),
    Fault("cut", connection(lambda c: c.sendall(CUT))),
    Fault("https of http", https_of_http), Fault("http of https", http_of_https),
    Fault("untrusted", untrusted), Fault("no address", no_address),
    Fault("nothing listens", nothing), Fault("no such host", no_host),
    Fault("wrong later", wrong_later, is_early=False),
    Fault("silent later", silent_later, is_early=False),
    Fault("stopped in mid-run", stopped, is_early=False), Fault("slow", slow, works=True),
    Fault("artifacts refused", no_artifacts), Fault("artifacts elsewhere", artifacts_elsewhere),
    Fault("locked", locked, is_early=False),
    Fault("locked for 3 s", partial(locked, seconds=3.0), is_early=False, works=True),
    Fault("no database", no_database),
)  # fmt: skip
COMMANDS = ("rand-vec", "upload", "auto-feat", "compare", "lookup")


def words_of(command: str, uri: str, world: World) -> list[str]:
    """A command that tracks in a store, or reads one."""
    store = [f"--tracking-uri={uri}"]
    if command == "upload":
        return [command, "spare", *store]
    if command == "compare":
        return [command, *store]
    images = ["--lookup-images", "12"] + (["--images", "8"] if command != "lookup" else [])
    return world.words(command, *images, *store, *(["--no-plots"] if command != "lookup" else []))


def face(fault: Fault, command: str, usual: float, trial: Trial, world: World,
         hand: Hand) -> None:  # fmt: skip
    """One command against one store."""
    most = LONGEST + 3 * usual  # the machine may be busier than when it was measured
    with fault.open(trial.draw, trial.place) as uri:
        began = time.monotonic()
        started = hand.start(words_of(command, uri, world), trial.place)
        code = started.wait(most)
        trial.waited = time.monotonic() - began
        if code is None:
            finish(started)
    trial.require(code is not None, f"it does not end within {most:.0f} s")
    done = Ended(code, (trial.place / ERR).read_text("utf-8", "replace"), trial.waited)
    trial.ended = {0: "whole", 1: "told", 2: "told", None: "never"}.get(code, f"with {code}")
    trial.require(code in (0, 1, 2, None), f"it ends with {code}: {done.err[-300:]}")
    trial.require_told(done, "the command")
    if fault.works and command != "compare":  # which has nothing to compare
        trial.require(code == 0, f"it does not work: {done.err[-300:]}")
    elif fault.is_early:
        trial.require(code != 0, "it does not see what is wrong")
        trial.require(not trial.runs, "it computes before it looks")
    require_marked(trial, None)
    require_kept(trial, done)
    world.give_store(trial.place, "good.db")
    require_usable(trial, hand, trial.place / "good.db")


def require_kept(trial: Trial, done: Ended) -> None:
    """What the store has not taken is whole, and the sentence says how to store it."""
    for folder in trial.runs:
        meta, path = folder.meta, folder.path
        if meta["status"] == "FINISHED" and not meta["uploaded"]:
            told = "semseg-cli upload" in done.err and path.name in done.err
            trial.require(told, f"nobody is told how to store {path.name}")
            trial.require(bool(trials.results_of(folder)), f"{path.name} has no results")


def plan(n_trials: int, world: World, _draw: Draw) -> list[Case]:
    """Faults in turn, each against the next command every time."""
    if not n_trials:
        return []
    hand = Hand(world.environment)
    place = world.place("usual")
    usual = hand.run(words_of("auto-feat", f"sqlite:///{place}/m.db", world), place).seconds
    found = []
    for i in range(n_trials):
        fault = FAULTS[i % len(FAULTS)]
        command = COMMANDS[(i + i // len(FAULTS)) % len(COMMANDS)]
        found.append(Case(fault.name, command, partial(face, fault, command, usual)))
    return found


def main(words: Sequence[str]) -> bool:
    """Prints what came of each fault; 1 where something was lost, not told, or without an end."""
    plans = {"faults": (60, plan)}
    return trials.main("python -m benchmarks servers", words, __doc__, plans)
