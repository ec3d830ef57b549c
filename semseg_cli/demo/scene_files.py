"""Writes scenes as an ADE20K folder: in parallel, and either completely or not at all."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from semseg_cli.demo.scenes import SPLITS, make_scene
from semseg_cli.demo.textures import CLASS_NAMES
from semseg_cli.errors import SemsegError
from semseg_cli.progress import Progress, silent

_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Request:
    """Which scenes to write; together with the generator's version it decides every pixel."""

    n_train: int
    n_val: int
    seed: int

    def scenes(self) -> list[tuple[str, int]]:
        """Split and index of every scene."""
        counts = zip(SPLITS, (self.n_train, self.n_val), strict=True)
        return [(split, index) for split, count in counts for index in range(count)]


def generate(
    folder: Path,
    n_train: int,
    n_val: int,
    seed: int,
    n_workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """`folder`, holding the scenes; returns at once when it is there already.

    Two processes may call this at once for one folder: the second waits for the first. An
    interrupted call leaves no `folder`, and what it did leave the next call removes. Without
    `n_workers` one process per core is used.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                _generate(folder, Request(n_train, n_val, seed), n_workers, progress)
    except OSError as error:
        raise SemsegError(
            f"cannot write the demo scenes to {folder} ({error.strerror or error}): "
            "free some space there, or choose another folder with --cache-dir"
        ) from error
    return folder


def _generate(folder: Path, request: Request, n_workers: int | None, progress: Progress) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        for split in SPLITS:
            (part / "images" / split).mkdir(parents=True)
            (part / "annotations" / split).mkdir(parents=True)
        advance = progress("drawing the demo scenes", len(request.scenes()), "scenes")
        shown = 0
        for done in _write_all(part, request, n_workers or _n_cores()):
            advance(done - shown)
            shown = done
        write_class_file(part)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _n_cores() -> int:
    """Cores this process may use, at most 16: more workers than that spend their time starting."""
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)


def _write_all(part: Path, request: Request, n_workers: int) -> Iterator[int]:
    """How many scenes are written so far, again and again until all are."""
    if n_workers == 1:
        yield from enumerate_written(part, request, worker=0, n_workers=1)
        return
    workers: list[subprocess.Popen[str]] = []
    try:
        for worker in range(n_workers):
            workers.append(_start_worker(part, request, worker, n_workers))
        while not all(_is_finished(worker, part) for worker in workers):
            time.sleep(_POLL_SECONDS)
            yield sum(1 for _ in part.glob("annotations/*/*.png"))
        yield len(request.scenes())
    finally:
        for started in workers:
            started.kill()
            with started:
                pass  # waits, and closes the pipe


def _is_finished(worker: subprocess.Popen[str], part: Path) -> bool:
    """Whether a worker is done; raises with what it said if it failed."""
    if worker.poll():
        assert worker.stderr is not None
        lines = worker.stderr.read().strip().splitlines()
        said = lines[-1] if lines else f"a worker ended with status {worker.returncode}"
        raise SemsegError(f"cannot write the demo scenes to {part.parent}: {said}")
    return worker.returncode == 0


def _start_worker(
    part: Path, request: Request, worker: int, n_workers: int
) -> subprocess.Popen[str]:
    """A process of our own making instead of `multiprocessing`.

    Spawned children of `multiprocessing` run the user's main script again, which breaks scripts
    without a main guard, and forked ones are unsafe next to a progress bar's thread. The new
    session keeps Ctrl-C from the worker; `-P` keeps the user's folder out of its import path.
    """
    numbers = (request.n_train, request.n_val, request.seed, worker, n_workers, os.getpid())
    package_root = Path(__file__).resolve().parents[2]
    search_path = os.pathsep.join([str(package_root), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "semseg_cli.demo.scene_files", str(part), *map(str, numbers)],
        env={**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def enumerate_written(part: Path, request: Request, worker: int, n_workers: int) -> Iterator[int]:
    """Writes every `n_workers`-th scene, beginning with number `worker`, and counts them."""
    for done, (split, index) in enumerate(request.scenes()[worker::n_workers], start=1):
        write_scene(part, request.seed, split, index)
        yield done


def write_scene(root: Path, seed: int, split: str, index: int) -> None:
    """Writes one scene's JPEG and mask under ADE20K's file names, the mask last."""
    scene = make_scene(seed, split, index)
    name = f"ADE_{'train' if split == 'training' else 'val'}_{index + 1:08d}"
    scene.image.save(root / "images" / split / f"{name}.jpg", quality=scene.quality)
    scene.labels.save(root / "annotations" / split / f"{name}.png")


def write_class_file(root: Path) -> None:
    """Writes `objectInfo150.txt`: each class's mean share of the pixels and its image counts."""
    shares = np.zeros(len(CLASS_NAMES) + 1)
    n_images = {split: np.zeros(len(CLASS_NAMES) + 1, int) for split in SPLITS}
    for split in SPLITS:
        for path in sorted((root / "annotations" / split).iterdir()):
            with Image.open(path) as mask:
                histogram = np.array(mask.histogram()[: len(shares)])
            shares += histogram / histogram.sum()
            n_images[split] += histogram > 0
    shares /= max(shares.sum(), 1)
    lines = ["Idx\tRatio\tTrain\tVal\tName"]
    for i, name in enumerate(CLASS_NAMES, start=1):
        counts = "\t".join(str(n_images[split][i]) for split in SPLITS)
        lines.append(f"{i}\t{shares[i]:.4f}\t{counts}\t{name}")
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _main() -> None:
    part, *numbers = sys.argv[1:]
    n_train, n_val, seed, worker, n_workers, parent = map(int, numbers)
    request = Request(n_train, n_val, seed)
    for _ in enumerate_written(Path(part), request, worker, n_workers):
        if hasattr(os, "getppid") and os.getppid() != parent:
            return  # killed outright, the parent could not stop us


if __name__ == "__main__":
    _main()
