"""Files that lie: damaged copies of every kind of file are told in a sentence, or taken.

`python -m benchmarks faults` damages 1,000 files by a seeded chance, and reads each as a command
would. A traceback, or a reading that does not end, is a fault.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.data.dataset import open_dataset
from semseg_cli.demo.textures import CLASS_NAMES
from semseg_cli.errors import SemsegError
from semseg_cli.models import sae as saes
from semseg_cli.models.head import load_head
from semseg_cli.models.sae.statistics import load_stat
from semseg_cli.models.vit import load_vit
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.lookup_csv import lookup_from_path, read_lookup, read_lookup_rows
from semseg_cli.settings.toml_files import read_config
from semseg_cli.tracking.tracked_run import describe, from_folder, table_for_ui

N_FILES = 1000
MOST_SECONDS = 20.0  # of one reading
N_LATENTS = 768  # of the demo's SAE
ODD = (b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"null", b'"x"', b"[]", b"{}", b"true",
       b"0", b"[" * 5000, b"\x1b[2K", b"\xff\xfe", b"")  # fmt: skip


class Endless(BaseException):
    """A reading took too long."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: where a whole one lies, and how its folder is read."""

    name: str
    folder: Path
    read: Callable[[Path], object]


def kinds(world: Path) -> list[Kind]:
    """Every kind, in a world that `make_world` made."""
    run, demo, data = world / "run", world / "demo", world / "data"
    sae, head = (lambda at: saes.load(at / "sae.pt")), (lambda at: load_head(at / "head.pt"))
    return [
        *(Kind(name, run, _read_run) for name in (
            "report.json", "run.json", "settings.toml", "class_results.csv", "per_image.parquet",
            "draws.csv",
        )),
        Kind("lookup.csv", world / "looked", _read_lookup),
        Kind("config.json", demo / "vit", lambda at: load_vit(str(at))),
        Kind("preprocessor_config.json", demo / "vit", lambda at: load_vit(str(at))),
        Kind("model.safetensors", demo / "vit", lambda at: load_vit(str(at))),
        Kind("sae.pt", world / "parts", sae),
        Kind("head.pt", world / "parts", head),
        Kind("stats.safetensors", world / "parts", _read_stats),
        Kind("own.toml", world / "parts", lambda at: read_config(at / "own.toml")),
        Kind("objectInfo150.txt", data, _read_data),
        Kind("images/validation/a.jpg", data, _read_data),
        Kind("annotations/validation/a.png", data, _read_data),
    ]  # fmt: skip


def _read_run(at: Path) -> None:
    folder, artifacts = RunFolder(at), Artifacts()
    run = from_folder(folder)
    for read in (artifacts.per_image, artifacts.classes, artifacts.report, artifacts.draws):
        read(run)
    table_for_ui(folder)
    describe(folder)
    if notes := artifacts.notes():
        raise SemsegError(notes[0])


def _read_lookup(at: Path) -> None:
    source = at / "lookup.csv"
    read_lookup(lookup_from_path(str(source)), CLASS_NAMES, N_LATENTS, str(source))
    read_lookup_rows(source)


def _read_stats(at: Path) -> None:
    for name in ("act_mean", "act_norm", "sparsity", "top_values"):
        load_stat(name, str(at / "stats.safetensors"))


def _read_data(at: Path) -> None:
    _ = open_dataset(at, "validation", 14)[0]


def make_world(to: Path) -> None:
    """The demo world, a run and a lookup on it, and a dataset of one pair."""
    command = [sys.executable, "-m", "semseg_cli"]
    run = runner(to)
    run([*command, "demo", "export", "demo"])
    common = ["--config", "demo/demo.toml", "--no-track", "--no-plots", "--quiet"]
    small = ["--images", "8", "--lookup-images", "16"]
    run([*command, "rand-vec", *common, *small, "--draws", "3", "--dump-to", "runs"])
    run([*command, "lookup", *common, *small[2:], "--dump-to", "lookups"])
    next((to / "runs").iterdir()).rename(to / "run")
    next((to / "lookups").iterdir()).rename(to / "looked")
    (to / "parts").mkdir()
    for path in (to / "demo").iterdir():
        if path.name in ("sae.pt", "head.pt") or path.suffix == ".safetensors":
            shutil.copy(path, to / "parts" / path.name)
    shutil.copy(to / "run" / "settings.toml", to / "parts" / "own.toml")
    for part in ("images", "annotations"):
        folder = to / "data" / part / "validation"
        folder.mkdir(parents=True)
        path = min((to / "demo" / "ade20k" / part / "validation").iterdir())
        shutil.copy(path, folder / f"a{path.suffix}")
    shutil.copy(to / "demo" / "ade20k" / "objectInfo150.txt", to / "data")


def runner(folder: Path) -> Callable[[list[str]], object]:
    """Runs a command in a folder; its failure is one of the benchmark."""
    return lambda words: subprocess.run(words, cwd=folder, check=True, capture_output=True)


def damaged(data: bytes, draw: np.random.Generator) -> bytes:
    """The bytes with one of several kinds of damage."""
    at, length = int(draw.integers(len(data) + 1)), int(draw.integers(1, 200))
    odd = ODD[int(draw.integers(len(ODD)))]
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", data[:100_000]))
    match int(draw.integers(7)):
        case 0:
            bit = bytes([data[at - 1] ^ (1 << int(draw.integers(8)))]) if at else b""
            return data[: max(0, at - 1)] + bit + data[at:]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + draw.bytes(length) + data[at + length :]
        case 3:
            return data[:at] + data[at + length :]
        case 4 if numbers:
            begin, end = numbers[int(draw.integers(len(numbers)))].span()
            return data[:begin] + odd + data[end:]
        case 5:
            return data[:at] + odd + data[at:]
        case _:
            return odd if draw.random() < 0.3 else data[:at] + data[: at // 2] + data[at:]


def judge(kind: Kind, at: Path) -> str:
    """What reading a damaged copy came to; a traceback goes to stderr."""
    try:
        with _limited(MOST_SECONDS):
            kind.read(at)
    except SemsegError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    except Endless:
        return "without end"
    except Exception:
        traceback.print_exc()
        return "traceback"
    return "taken"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Endless

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def campaign(world: Path, n_files: int, seed: int) -> dict[str, Counter[str]]:
    """Kind -> how often each outcome came, over as many damaged files, kinds in turn."""
    every = kinds(world)
    found: dict[str, Counter[str]] = {}
    for kind in every:
        kind.read(kind.folder)  # whole files are taken: else nothing is learnt from the others
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(n_files):
            kind = every[number % len(every)]
            draw = np.random.default_rng([seed, number])
            at = Path(scratch) / "copy"
            shutil.copytree(kind.folder, at)
            path = at / kind.name
            path.write_bytes(damaged(path.read_bytes(), draw))
            outcome = judge(kind, at)
            found.setdefault(kind.name, Counter())[outcome] += 1
            if outcome not in ("refused", "taken"):
                print(f"file {number} of seed {seed}, {kind.name}: {outcome}", file=sys.stderr)
            shutil.rmtree(at)
    return found


def main(words: Sequence[str]) -> bool:
    """Prints what came of each kind; whether no file gave a traceback or no end."""
    parser = argparse.ArgumentParser("python -m benchmarks faults", description=__doc__)
    parser.add_argument("--files", type=int, default=N_FILES, help="how many are damaged")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder))
        found = campaign(Path(folder), options.files, options.seed)
    for name, outcomes in found.items():
        print(f"{name:30} {', '.join(f'{n} {said}' for said, n in sorted(outcomes.items()))}")
    total = sum(found.values(), Counter())
    print(f"all: {dict(sorted(total.items()))}, {time.monotonic() - began:.0f} s")
    return total.keys() <= {"refused", "taken"}
