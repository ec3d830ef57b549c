"""Peak memory of each side, in a process of its own: above what weights and images take."""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import Row
from benchmarks.timing import bare, prepared
from benchmarks.world import World
from semseg_cli.errors import SemsegError

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
REPOSITORY = Path(__file__).parents[1]


def peaks_in_processes(arguments: Sequence[str], sides: Sequence[str]) -> dict[str, dict[str, int]]:
    """Side -> row -> bytes, each side from a process of its own; empty where it cannot be told."""
    return {side: _in_process([*arguments, "--peaks-of", side]) for side in sides}


def _in_process(arguments: Sequence[str]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise SemsegError(f"The process that measures memory failed ({last}): try fewer --rows.")
    return {str(name): int(n) for name, n in json.loads(done.stdout.splitlines()[-1]).items()}


def peaks(rows: Sequence[Row], world: World, side: str) -> dict[str, int]:
    """Bytes that a side takes at its peak in each row it has, beside what is there before."""
    if world.device.type == "cpu" and not can_reset():
        return {}
    bare(world)  # the libraries' own buffers are no row's
    measured = [row for row in rows if row.has_peak]
    if side == "bare":
        n_bytes = peak_of(bare, world)
        return {row.name: n_bytes for row in measured if row.floor}
    found = {}
    for row in measured:
        run = row.ours if side == "ours" else row.naive
        if run is not None:
            with prepared(row, world) as ready:
                found[row.name] = peak_of(run, ready)
    return found


def peak_of(run: Callable[[World], Any], world: World) -> int:
    """Bytes at the peak of a run, above the level before."""
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
        before = torch.cuda.memory_allocated(world.device)
        run(world)
        return torch.cuda.max_memory_allocated(world.device) - before
    _give_back()
    CLEAR.write_text(RESET_PEAK)
    before = status("VmRSS")
    run(world)
    return max(0, status("VmHWM") - before)


def _give_back() -> None:
    """Returns freed memory to the system: else a peak hides in what another row left behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def can_reset() -> bool:
    """Whether this system lets a process forget its peak."""
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return STATUS.exists()


def status(name: str) -> int:
    """Bytes that this process has (VmRSS), or had at most (VmHWM)."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
