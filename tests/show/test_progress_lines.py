"""Progress without a terminal, and what long stages say: by a clock and a timer of the test."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.capture import CaptureFixture
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from semseg_cli import progress
from semseg_cli.progress import quietly, stage
from semseg_cli.show import console
from semseg_cli.show.progress_lines import duration, progress_lines


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(total: int, steps: list[tuple[float, int]], unit: str = "images") -> list[str]:
    clock, lines = Clock(), list[str]()
    advance = progress_lines(lines.append, clock)("lookup", total, unit)
    for seconds, n in steps:
        clock.now += seconds
        advance(n)
    return lines


def test_a_line_per_stage_and_per_ten_percent_with_rate_and_time_left() -> None:
    assert lines_of(1000, [(2.0, 100)] * 10)[:3] == [
        "lookup: 1000 images",
        "lookup: 10%, 100/1000, 50 images/s, 18 s left",
        "lookup: 20%, 200/1000, 50 images/s, 16 s left",
    ]
    assert lines_of(1000, [(2.0, 100)] * 10)[-1] == (
        "lookup: 100%, 1000/1000, 50 images/s, in 20 s"
    )
    assert lines_of(4, [(100.0, 1)], "epochs")[1] == (
        "lookup: 25%, 1/4, 0.01 epochs/s, 5 min 0 s left"
    )


def test_a_short_stage_is_one_line() -> None:
    assert lines_of(100, [(0.01, 10)] * 10) == ["lookup: 100 images"]


def test_what_has_begun_to_tell_tells_its_end() -> None:
    lines = lines_of(100, [(2.0, 50), (0.1, 50)])
    assert [line.split(",")[0] for line in lines[1:]] == ["lookup: 50%", "lookup: 100%"]


@given(
    st.integers(0, 500),
    st.lists(st.tuples(st.floats(0, 60), st.integers(0, 60)), max_size=40),
)
def test_never_more_than_a_line_per_ten_percent(total: int, steps: list[tuple[float, int]]) -> None:
    lines = lines_of(total, steps)
    parts = [int(line.split(": ")[1].split("%")[0]) // 10 for line in lines[1:]]
    assert parts == sorted(set(parts))


def test_durations_have_two_units_at_most() -> None:
    assert [duration(s) for s in (0.2, 59.4, 125, 12000)] == [
        "1 s", "59 s", "2 min 5 s", "3 h 20 min",
    ]  # fmt: skip


def test_lines_go_to_stderr_where_there_is_no_terminal(capsys: CaptureFixture[str]) -> None:
    with console.progress_bars() as start:
        start("statistics", 3, "patches")(3)
    assert capsys.readouterr().err == "statistics: 3 patches\n"


def test_progress_is_in_a_file_of_errors_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        with console.progress_bars() as start:
            start("statistics", 3, "patches")(3)
        console.say("a sentence")
    assert (tmp_path / "err").read_text() == "statistics: 3 patches\na sentence\n"


def test_quiet_is_quiet(capsys: CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "semseg_cli")
    with console.progress_bars(quiet=True) as start:
        start("statistics", 3)(3)
    assert capsys.readouterr().err == ""
    assert "statistics: 3 images" in caplog.text


def test_bars_name_stage_and_unit_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    terminal = Console(stderr=True, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    with console.progress_bars() as start:
        start("causal selection", 3, "passes")(1)
    shown = capsys.readouterr().err
    assert "causal selection" in shown
    assert "1/3 passes" in shown
    assert "left" in shown


class ByHand:
    """A timer that rings when the test says so."""

    made: list["ByHand"]

    def __init__(self, seconds: float, say: Callable[[], None]) -> None:
        self.seconds, self.say, self.is_waiting = seconds, say, False
        self.made.append(self)

    def start(self) -> None:
        self.is_waiting = True

    def cancel(self) -> None:
        self.is_waiting = False

    def ring(self) -> None:
        if self.is_waiting:
            self.say()


@pytest.fixture(autouse=True)
def _no_timers() -> None:
    ByHand.made = []


def test_a_long_stage_says_what_it_does(capsys: CaptureFixture[str]) -> None:
    with quietly(False), stage("Loading the ViT", ByHand):
        (timer,) = ByHand.made
        assert timer.seconds == progress.LONG
        timer.ring()
    assert capsys.readouterr().err == "Loading the ViT ...\n"


def test_a_short_stage_says_nothing(capsys: CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), quietly(False), stage("Loading", ByHand):
        raise ValueError("x")
    ByHand.made[0].ring()
    assert capsys.readouterr().err == ""


def test_no_stage_speaks_in_a_library_or_where_quiet_is_asked_for(
    capsys: CaptureFixture[str],
) -> None:
    with stage("Loading the ViT", ByHand):
        assert ByHand.made == []
    with quietly(False), quietly(True), stage("Loading the ViT", ByHand):
        assert ByHand.made == []
    with quietly(True), quietly(False), stage("Hashing", ByHand):
        ByHand.made[0].ring()
    assert capsys.readouterr().err == "Hashing ...\n"


def test_a_real_timer_rings_in_its_own_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    from threading import Event

    rung = Event()
    monkeypatch.setattr("semseg_cli.progress.LONG", 0.0)
    monkeypatch.setattr("builtins.print", lambda *_a, **_k: rung.set())
    with quietly(False), stage("Opening"):
        assert rung.wait(60)
