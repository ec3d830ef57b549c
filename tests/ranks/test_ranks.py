"""Several ranks give the report of one process, and end as one."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked_ranks
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from forked_ranks import name_of
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from mlflow_store import new_store
from PIL import Image
from ranks_driver import BUG
from sae_files import saev_1, write_saev
from terminal import Done, Terminal, ended, options, working_in
from worlds import World, make_sae, make_tiny_world

from benchmarks.campaign.hand import ERR, Forked, Job, Started, tell
from semseg_cli import interrupts
from semseg_cli.cli import app, run
from semseg_cli.commands.same_settings import OF_A_MACHINE, require_same_settings
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.models.sae.model import WEIGHTS
from semseg_cli.models.sae.statistics import digest_of
from semseg_cli.ranks import collectives, ending, network, who
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.group import STOPPED, Word
from semseg_cli.runs.folder import CLASSES_FILE, PER_IMAGE_FILE, REPORT_FILE, RunFolder
from semseg_cli.settings.base import Settings, narrow
from semseg_cli.settings.controls import RandVec
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.output import Shown

DRIVER = Path(__file__).parents[1].joinpath("ranks_driver.py")
NOT_RESULTS = ("run.json", "log.txt", "settings.toml", "doctor.json")

# --- one process that believes it is one of several ---------------------------------------------


@pytest.fixture
def be_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes this process a rank that has joined; returns the store that it shares with others."""

    def be(rank: int, n_ranks: int) -> Any:
        for name, value in (
            ("RANK", rank),
            ("WORLD_SIZE", n_ranks),
            ("LOCAL_RANK", rank),
            ("LOCAL_WORLD_SIZE", n_ranks),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", 1),
        ):
            monkeypatch.setenv(name, str(value))
        store = dist.HashStore()
        monkeypatch.setattr(who, "_groups", [who.Group(store, is_joined=True)])
        return store

    return be


def test_without_torchrun_nothing_is_shared() -> None:
    ranks.join()
    assert (ranks.n_ranks(), ranks.rank(), ranks.is_lead(), ranks.is_joined()) == (
        1,
        0,
        True,
        False,
    )
    assert ranks.shard(5) == range(5)
    assert ranks.from_lead("here", lambda: b"made") == b"made"
    assert ranks.from_all("here", b"own") == [b"own"]
    ranks.require_same("files", "anything")
    ranks.check()
    ranks.leave()
    values = torch.tensor([1, 2])
    collectives.all_sum(values)
    collectives.all_max(values)
    assert torch.equal(collectives.gather_counts(values, 2), torch.tensor([1, 2]))
    assert not dist.is_initialized()


def test_ranks_that_have_not_joined_share_nothing(
    be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script of the user's own under torchrun gets whole reports from the reference API."""
    be_rank(1, 2)
    monkeypatch.setattr(who, "_groups", [])
    assert (ranks.rank(), ranks.n_ranks(), ranks.shard(3), ranks.is_lead()) == (
        1,
        2,
        range(3),
        True,
    )


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_are_contiguous_whole_and_even(n: int, n_ranks: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(who, "n_ranks", lambda: n_ranks)
        patch.setattr(who, "is_joined", lambda: True)
        shards = [ranks.shard(n, rank) for rank in range(n_ranks)]
    assert [position for shard in shards for position in shard] == list(range(n))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_last_rank_to_arrive_lets_all_go(be_rank: Callable[..., Any]) -> None:
    store = be_rank(0, 3)
    store.add("step/1/here", 2)
    ranks.meet("sum")
    assert store.check(["step/1/go"])


def test_ranks_at_different_places_are_a_bug(be_rank: Callable[..., Any]) -> None:
    be_rank(1, 2).set("step/1/name", "sum")
    with pytest.raises(AssertionError, match="rank 1 is at 'gather', another rank at 'sum'"):
        ranks.meet("gather")


def test_a_rank_gets_what_the_lead_made_and_what_all_have(be_rank: Callable[..., Any]) -> None:
    store = be_rank(1, 2)
    store.set("step/1", "of the lead")
    assert ranks.from_lead("lookup", lambda: b"own") == b"of the lead"
    store.set("step/2/0", "a")
    assert ranks.from_all("contents", b"b") == [b"a", b"b"]


def test_a_rank_with_other_files_is_refused(be_rank: Callable[..., Any]) -> None:
    be_rank(1, 2).set("step/1", "cat")
    with pytest.raises(SemsegError, match="The images are not those of rank 0"):
        ranks.require_same("images", "dog")


LEADS = (Setup(seed=3, cls_token=True, act_norm="norm.json"), RandVec(draws=2), Shown())
ELSEWHERE = (
    narrow(
        LEADS[0], Setup, act_norm="/data/norm.json", cache_dir=Path("x"), n_workers=3, batch_size=1,
        memory_budget=2.0, no_cache=True, cache_limit=1.0,
    ),
    LEADS[1],
    Shown(dump_to=Path("x"), quiet=True, no_track=True, run_name="x", examples=2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("own", "differing"),
    [
        (LEADS, ""),
        (ELSEWHERE, ""),
        ((narrow(LEADS[0], Setup, classes=("sky",)), *LEADS[1:]), "--class"),
        ((Setup(cls_token=True), *LEADS[1:]), "--act-norm, --seed"),
        ((LEADS[0], RandVec(lookup="x.csv"), LEADS[2]), "--draws, --lookup"),
        ((*LEADS[:2], Shown(dry_run=True)), "--dry-run"),
    ],
)  # fmt: skip
def test_settings_that_change_results_are_those_of_the_lead(
    own: Sequence[Settings], differing: str, be_rank: Callable[..., Any]
) -> None:
    store = be_rank(0, 2)
    require_same_settings(*LEADS)
    leads = store.get("step/1")
    be_rank(1, 2).set("step/1", leads)
    if not differing:
        require_same_settings(*own)
        return
    with pytest.raises(UsageError, match=rf"Settings differ .* rank 0 \({differing}\): give all"):
        require_same_settings(*own)


def test_settings_that_may_differ_between_ranks_are_settings() -> None:
    names = {entry.name for entry in entries(Setup)}
    assert names >= OF_A_MACHINE


def test_what_ranks_see_and_load_is_compared(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(ranks, "require_same", lambda what, value: said.append((what, value)))
    session = tiny_world.session(act_norm=2.0)
    assert any(torch.__version__ in value for _, value in said)
    assert {"models", "given statistics"} <= {what for what, _ in said}
    given = {**session.given_stats, "act_norm": torch.tensor(3.0)}
    assert digest_of(session.given_stats) in dict(said).values()
    assert digest_of(given) != digest_of(session.given_stats)
    said.clear()
    whole = session.dataset
    for seen in (
        whole,
        replace(whole, patch_size_px=16),
        replace(whole, labels=replace(whole.labels, offset=-1)),
        replace(whole, preprocessing=replace(whole.preprocessing, divisor=1.0)),
    ):
        seen.share_contents()
    assert len({what for what, _ in said}) == 1
    assert len({value for _, value in said}) == 4


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (1, SemsegError, "Rank 2: no such file"),
        (2, UsageError, "Rank 2: no such file"),
        (STOPPED, interrupts.Terminated, "^$"),
    ],
)
def test_a_waiting_rank_heeds_the_one_that_ended_first(
    code: int, kind: type[BaseException], says: str, be_rank: Callable[..., Any]
) -> None:
    be_rank(0, 3)
    ranks.check()
    ranks.post(Word(2, code, "no such file"))
    ranks.post(Word(1, 1, "too late"))
    with pytest.raises(kind, match=says) as raised:
        ranks.wait_for("never")
    assert type(raised.value) is kind
    who.current().looked = 0.0
    with pytest.raises(kind, match=says):
        ranks.check()


def test_a_rank_does_not_heed_itself(be_rank: Callable[..., Any]) -> None:
    be_rank(1, 2)
    ranks.post(Word(1, 1, "my own"))
    who.current().looked = 0.0
    ranks.check()


def test_a_signal_reaches_a_rank_that_waits(be_rank: Callable[..., Any]) -> None:
    be_rank(0, 2)
    interrupts._asked.append(KeyboardInterrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ranks.meet("sum")
    finally:
        interrupts.settle()


def test_a_stopped_lead_says_which_rank_is_the_reason(be_rank: Callable[..., Any]) -> None:
    stopped = interrupts.Terminated()
    assert ending.explained(stopped) is stopped
    host = os.uname().nodename
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    store = be_rank(0, 3)
    store.set("where/1", f"{host} {os.getpid()}")
    store.set("where/2", f"{host} {gone.pid}")
    assert ending.explained(KeyboardInterrupt()).args == ()
    assert str(ending.explained(stopped)).startswith("Rank 2 died without a message")
    ranks.post(Word(2, STOPPED, "stopped"))
    assert ranks.dead_rank(0.0) is None
    assert str(ending.explained(SemsegError("mine"))) == "mine"


def test_a_stopped_lead_tells_the_failure_of_another_rank(be_rank: Callable[..., Any]) -> None:
    be_rank(0, 2)
    ranks.post(Word(1, 1, "no such file"))
    cause = ending.explained(interrupts.Terminated())
    assert (type(cause), str(cause)) == (SemsegError, "Rank 1: no such file")


def test_a_rank_on_another_machine_is_dead_when_it_says_nothing(
    be_rank: Callable[..., Any],
) -> None:
    store = be_rank(0, 2)
    store.set("where/1", "another-machine 1")
    assert ranks.dead_rank(0.0) == 1
    ranks.post(Word(1, STOPPED, "stopped"))
    assert ranks.dead_rank(0.0) is None


class Clock:
    """Time that passes only while somebody sleeps; `then` happens at a moment."""

    def __init__(self, moment: float, then: Callable[[], None]) -> None:
        self.now, self.moment, self.then = 0.0, moment, then

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now - seconds < self.moment <= self.now:
            self.then()


@pytest.mark.parametrize(("moment", "is_dead"), [(14.0, False), (16.0, True)])
def test_a_rank_inside_a_pass_on_another_machine_has_time_for_its_word(
    moment: float, is_dead: bool, be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = be_rank(0, 2)
    store.set("where/1", "another-machine 1")
    monkeypatch.setattr(ranks, "time", Clock(moment, lambda: ranks.post(Word(1, STOPPED, "late"))))
    stopped = interrupts.Terminated()
    assert (ending.explained(stopped) is stopped) is not is_dead


def test_a_rank_that_lives_on_this_machine_is_not_waited_for(
    be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_rank(0, 2).set("where/1", f"{os.uname().nodename} {os.getpid()}")
    clock = Clock(0.0, lambda: None)
    monkeypatch.setattr(ranks, "time", clock)
    assert ranks.dead_rank(15.0) is None
    assert clock.now == 0.0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_ends_before_it_has_joined_says_so_and_does_not_linger(
    rank: int, be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = be_rank(rank, 2), Clock(0.0, lambda: None)
    monkeypatch.setattr(who, "_groups", [])
    monkeypatch.setattr(ranks, "_opened", [store])
    monkeypatch.setattr(ranks, "time", clock)
    if rank == 1:
        store.set("semseg-cli/0/told", "")
    ending._tell(Word(rank, 2, "wrong usage"))
    assert store.check(["semseg-cli/0/told", "semseg-cli/0/first", f"semseg-cli/0/word/{rank}"])
    assert clock.now == 0.0


def test_a_network_that_does_not_work_is_told_when_joining(
    be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise RuntimeError("no route to host")

    store = be_rank(0, 2)
    store.add("semseg-cli/0/step/1/here", 1)
    monkeypatch.setattr(who, "_groups", [])
    monkeypatch.setattr(ranks, "_opened", [store])
    monkeypatch.setattr(ranks, "_REASON_SECONDS", 0.0)
    monkeypatch.setattr(network, "make_process_group", fail)
    with pytest.raises(SemsegError, match=r"Rank 0 has lost the connection .*no route to host"):
        ranks.join()


def test_a_rendezvous_that_cannot_be_reached_is_told(
    be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_rank(1, 2)
    monkeypatch.setattr(ranks, "_opened", [])
    with pytest.raises(SemsegError, match="Rank 1 has lost the connection"):
        ranks.open_rendezvous(seconds=0.1)


def test_a_broken_collective_is_a_lost_connection_or_what_its_breaker_says(
    be_rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any) -> None:
        raise RuntimeError("reset by peer")

    monkeypatch.setattr(ranks, "_REASON_SECONDS", 0.0)
    monkeypatch.setattr(dist, "all_reduce", fail)
    store = be_rank(0, 2)
    store.add("step/1/here", 1)
    with pytest.raises(SemsegError, match=r"lost the connection .*reset by peer"):
        collectives.all_sum(torch.ones(1))
    ranks.post(Word(1, 1, "no such file"))
    with pytest.raises(SemsegError, match="Rank 1: no such file"), ranks.communicating():
        fail()


def test_want_of_memory_is_no_lost_connection_and_is_told_before_ranks_meet(
    be_rank: Callable[..., Any],
) -> None:
    store = be_rank(0, 2)
    with pytest.raises(RuntimeError, match="memory"):
        collectives.gather_counts(torch.ones(1, 4, dtype=torch.int64), 2**50)
    assert not store.check(["step/1/name"])


def test_a_second_sigterm_does_not_disturb_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in interrupts._KINDS}
    try:
        interrupts.listen()
        interrupts.settle(is_final=True)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        interrupts.listen()
        with pytest.raises(interrupts.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        interrupts.settle()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_counts_travel_in_parts_that_are_views_of_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collectives, "_AT_ONCE", 7)
    rows = torch.zeros(5, 3, dtype=torch.int64)
    for part in collectives._parts(rows):
        assert part.numel() <= 7
        part += 1
    assert (rows == 1).all()
    assert list(collectives._parts(rows[:0])) == []


@pytest.mark.parametrize(
    "command", ["train-head", "doctor", "compare", "ui", "upload", "demo", "cache"]
)
def test_commands_for_one_process_refuse_several(
    command: str, be_rank: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {str(c.name) for c in app.registered_commands}
    assert command in commands | {str(group.name) for group in app.registered_groups}
    be_rank(0, 2)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            run([command])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 2
    said = f"`{command}` is work for one process: run `semseg-cli {command}` without torchrun."
    assert capsys.readouterr().err == f"semseg-cli: {said}\n"


# --- real processes -----------------------------------------------------------------------------


def test_ranks_that_torchrun_starts_itself_tell_one_sentence(terminal: Terminal) -> None:
    """The others of this section are forked: nothing else about them differs."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr")
    words = (*torchrun, "127.0.0.1", "--nproc-per-node", "2", "-m", "semseg_cli", "ui")
    done = subprocess.run(words, cwd=terminal.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence_of(done.stderr).startswith("`ui` is work for one process: run")


@contextmanager
def torchrun(
    terminal: Terminal, n_ranks: int, *args: str
) -> Iterator[tuple[Started, Callable[[], Done]]]:
    """So many ranks of a module or script, started in the terminal's folder; and what waits for
    their end."""
    words = ("--nproc-per-node", str(n_ranks), *args)
    started = Forked(forked_ranks.torchrun, Job(words, str(terminal.folder)))
    try:
        yield started, lambda: ended(started, terminal.folder)
    finally:
        tell(started, signal.SIGTERM)  # its ranks, too, where they have not ended
        ended(started, terminal.folder)


def results(folder: Path) -> dict[str, bytes]:
    """The result files of a run folder, by name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if name not in NOT_RESULTS}


@pytest.fixture(scope="module")
def silent_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny world whose SAE file does not say whether b_dec is subtracted."""
    world = make_tiny_world(tmp_path_factory.mktemp("silent"))
    sae = make_sae(seed=3)
    weights = {name: getattr(sae, name).numpy() for name in WEIGHTS}
    write_saev(world.folder, weights, saev_1("Relu"))
    return world


def columns_of(parquet: bytes) -> dict[str, Any]:
    """The columns of a table."""
    frame = pd.read_parquet(io.BytesIO(parquet))
    return {str(name): column.astype(object).tolist() for name, column in frame.items()}


# What has sums of margins and lengths, and how it is read: other batches change their last digits.
HAVE_SUMS: dict[str, Callable[[bytes], Any]] = {
    REPORT_FILE: json.loads,
    CLASSES_FILE: lambda data: list(csv.DictReader(io.StringIO(data.decode()))),
    PER_IMAGE_FILE: columns_of,
}


def assert_same_numbers(mine: Any, theirs: Any) -> None:
    """Whole numbers and words are equal, all others but for their last digits."""
    assert type(mine) is type(theirs)
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert_same_numbers(value, theirs[key])
    elif isinstance(mine, list):
        for one, other in zip(mine, theirs, strict=True):
            assert_same_numbers(one, other)
    elif isinstance(mine, float) or (isinstance(mine, str) and "." in mine and mine != theirs):
        assert float(mine) == pytest.approx(float(theirs), rel=1e-3, abs=1e-4, nan_ok=True)
    else:
        assert mine == theirs


def usual(world: World, command: str, cache_dir: Path) -> list[str]:
    """The options of an untracked command without pictures."""
    unused = {"lookup": ["min_patches"], "stats": ["min_patches", "seg_ckpt", "max_freq"]}
    without = dict.fromkeys(unused.get(command, []), "")
    named = options(world, cache_dir=str(cache_dir), **without)
    return [*named, "--no-track", *([] if command == "stats" else ["--no-plots"])]


def compare_with_one_process(
    terminal: Terminal,
    world: World,
    n_ranks: int,
    commands: Sequence[Sequence[str]],
    last: Sequence[Sequence[str]],
) -> tuple[str, str, Path]:
    """Runs commands in one group of ranks; their files are those of one process without a cache.

    Then the last ones, which fail: what they printed, and the folder of their run.
    """
    group = Terminal(terminal.folder / "group")
    group.folder.mkdir()
    new_store(group.folder)
    shared = [
        [name, *usual(world, name, terminal.folder / "shared"), *rest] for name, *rest in commands
    ]
    words = (str(DRIVER), json.dumps([*shared, *last]))
    with torchrun(group, n_ranks, *words) as (_, end):
        alone = [
            terminal.type(name, *usual(world, name, terminal.folder / "alone"), "--no-cache", *rest)
            for name, *rest in commands
        ]
        together = end()
    out, err = together.out, together.err
    assert [done.code for done in alone] == [0] * len(commands)
    expected = [results(folder) for folder in terminal.runs()]
    assert together.code == 1
    printed = "".join(done.out for done in alone)
    assert out.startswith(printed), err
    folders = group.runs()
    assert len(expected) >= len(commands)
    for folder, theirs in zip(folders[: len(expected)], expected, strict=True):
        mine = results(folder)
        assert mine.keys() == theirs.keys()
        different = [name for name in mine if mine[name] != theirs[name]]
        assert set(different) <= set(HAVE_SUMS)
        for name in different:
            assert_same_numbers(HAVE_SUMS[name](mine[name]), HAVE_SUMS[name](theirs[name]))
    return out.removeprefix(printed), err, folders[-1]


def sentence_of(err: str) -> str:
    """The only sentence that was told."""
    (told,) = (line for line in err.splitlines() if line.startswith("semseg-cli: "))
    return told.removeprefix("semseg-cli: ")


def ending_in_store(folder: Path) -> tuple[str, str]:
    """Status and reason that MLflow has of a run."""
    meta = RunFolder(folder).meta
    run = MlflowClient(meta["tracking_uri"]).get_run(meta["mlflow_run_id"])
    return run.info.status, run.data.tags["semseg.reason"]


def break_an_image(world: World) -> Path:
    """A picture whose end is missing: its header is good, so only who decodes it finds out."""
    whole = world.data / "images" / "validation" / "validation_0004.png"
    cut = whole.with_suffix(".jpg")
    Image.open(whole).save(cut)
    whole.unlink()
    cut.write_bytes(cut.read_bytes()[:-200])
    return cut


@pytest.mark.slow
def test_two_ranks_give_the_files_of_one_process_and_one_sentence_of_a_failure(
    silent_world: World, terminal: Terminal
) -> None:
    mine = terminal.folder / "mine.csv"
    mine.write_text("class_id,latent\n1,3\n2,13\n")
    broken = make_tiny_world(terminal.folder / "broken")
    cut = break_an_image(broken)
    out, err, folder = compare_with_one_process(
        terminal,
        silent_world,
        2,
        [
            ["lookup", "--select", "causal", "--scale", "-2", "--scale", "-1", "--top-k", "3"],
            ["lookup", "--select", "cause", "--scale", "-2", "--max-group", "3"],
            ["stats", "--lookup-images", "5"],
            ["rand-vec", "--batch-size", "2"],
            ["rand-vec", "--match", "norm", "--protocol", "label", "--draws", "2"],
            ["rand-feat", "--draws", "2", "--images", "5"],
            ["rand-feat", "--match", "frequency", "--protocol", "label"],
            ["auto-feat", "--images", "5", "--workers", "1"],
            ["auto-feat", "--select", "causal", "--protocol", "label", "--scale", "-2"],
            ["auto-feat", "--lookup", str(mine), "--class", "wall"],
            ["auto-feat", "--control", "random", "--class", "wall"],
            ["push", "--protocol", "label"],
            ["insert", "--other-images", "3"],
            ["mean-diff", "--direction", "lda", "--other-images", "3"],
            ["mean-diff", "--match", "project", "--protocol", "label"],
        ],
        [
            ["rand-vec", *options(broken), "--skip-bad", "--no-track"],
            ["rand-vec", *options(broken)],
        ],
    )
    assert "5 images, 5 classes" in out
    assert err.count(f"  The image {cut} cannot be read") == 1
    reason = sentence_of(err)
    assert reason.startswith(f"Rank 1: The image {cut} cannot be read")
    meta = RunFolder(folder).meta
    assert (meta["status"], meta["reason"]) == ("FAILED", reason)
    assert ending_in_store(folder) == ("FAILED", reason)


@pytest.mark.slow
def test_more_ranks_than_images_and_a_bug_of_one(tiny_world: World, terminal: Terminal) -> None:
    few = ["--images", "2", "--lookup-images", "2"]
    named = options(tiny_world, cache_dir=str(terminal.folder / "shared"))
    out, err, folder = compare_with_one_process(
        terminal,
        tiny_world,
        3,
        [
            ["auto-feat", "--select", "causal", *few],
            ["rand-vec", "--protocol", "label", *few],
        ],
        [["auto-feat", *named, *few, "--dry-run"], [BUG, "auto-feat", *named, "--no-track"]],
    )
    assert out.count("estimated time") == out.count(" on 3 x cpu ") == 1
    reason = "Rank 1: ValueError: a planted bug; its traceback is on stderr."
    assert sentence_of(err) == reason
    assert err.count("\nValueError: a planted bug\n") == 1
    meta = RunFolder(folder).meta
    assert (meta["status"], meta["reason"]) == ("FAILED", reason)


def of_rank(number: int, torchrun: int) -> int:
    """The process of a rank."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    (found,) = (
        int(pid)
        for pid in children
        if Path(f"/proc/{pid}/comm").read_text().strip() == name_of(number)
    )
    return found


def wait_until_evaluating(terminal: Terminal, started: Started) -> None:
    logs: list[Path] = []
    while not any("rand-vec: " in log.read_text() for log in logs if log.exists()):
        assert started.wait(0.1) is None, (terminal.folder / ERR).read_text()
        logs = [folder / "log.txt" for folder in terminal.runs()]


@pytest.fixture(scope="module")
def stopped_groups(
    tiny_world: World, tmp_path_factory: pytest.TempPathFactory
) -> dict[signal.Signals, tuple[Terminal, Done]]:
    """Two groups of ranks: one loses a rank, the other gets a Ctrl-C."""
    found = {}
    draws = ["rand-vec", *options(tiny_world, batch_size="1"), "--draws", "10000"]
    for number in (signal.SIGKILL, signal.SIGINT):
        with (
            working_in(tmp_path_factory.mktemp(number.name)) as terminal,
            torchrun(terminal, 2, "-m", "semseg_cli", *draws) as (started, end),
        ):
            wait_until_evaluating(terminal, started)
            is_kill = number == signal.SIGKILL
            os.kill(of_rank(1, started.pid) if is_kill else started.pid, number)
            found[number] = (terminal, end())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (signal.SIGKILL, "FAILED", "Rank 1 died without a message (killed, or out of memory?)."),
        (signal.SIGINT, "KILLED", "interrupted"),
    ],
)
def test_a_killed_rank_and_a_ctrl_c_end_all(
    number: signal.Signals,
    status: str,
    reason: str,
    stopped_groups: dict[signal.Signals, tuple[Terminal, Done]],
) -> None:
    terminal, done = stopped_groups[number]
    assert (done.code, done.out) == (1, "")
    said = f"semseg-cli: {reason}" if status == "FAILED" else f"Stopped ({reason}): the run"
    assert done.err.count(said) == 1
    (folder,) = terminal.runs()
    meta = RunFolder(folder).meta
    assert (meta["status"], meta["reason"]) == (status, reason)
    assert ending_in_store(folder) == (status, reason)
