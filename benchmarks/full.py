"""The large size, from image files: whole runs in the steady state, and each stage by itself."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import floors, ours
from benchmarks.files import SPLIT, write_dataset
from benchmarks.sizes import Size
from benchmarks.stages import measure_device, stages
from benchmarks.timing import CACHE_BYTES, wait
from benchmarks.world import LABEL_THRESHOLD, World
from semseg_cli.data.dataset import open_dataset
from semseg_cli.engine.detections import count_detections
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.thresholds import SHARES, Thresholds
from semseg_cli.models.residual_cache import ResidualCache
from semseg_cli.progress import Advance, Progress
from semseg_cli.show.tables import Column, Table

WIDTH_HEIGHT = (683, 512)
THREE = ("rand-vec", "rand-feat", "auto-feat")


class Stopwatch:
    """A progress that notes when each batch of images was done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.marks: list[tuple[float, int]] = []

    def __call__(self, description: str, total: int, unit: str = "images") -> Advance:
        """Starts; what was noted before is forgotten."""
        self.marks = []
        return self._mark

    def _mark(self, n: int) -> None:
        self.marks.append((time.perf_counter(), n))

    def steady(self) -> float:
        """Seconds for all units at the rate after the first mark; workers have started by then."""
        wait(self.world)
        end, (start, n_first) = time.perf_counter(), self.marks[0]
        n_all = sum(n for _, n in self.marks)
        return (end - start) * n_all / max(1, n_all - n_first)


Work = Callable[[World, Progress], Any]


@dataclass(frozen=True)
class Job:
    """A whole run from image files, its floor per image, and the seconds it may take."""

    name: str
    run: Work
    flops: float
    at_most: float | None = None
    fills_cache: bool = False


def jobs(size: Size) -> list[Job]:
    """What is run: the parts, and both targets."""
    lookup, bare = floors.lookup(size).flops, floors.bare(size).flops
    three, all_classes = floors.edits(size, 3).flops, floors.edits(size, size.n_classes).flops
    both = floors.edits(size, 3) + floors.encoder(size, size.d_sae)
    return [
        Job("bare, with decoding", _bare, bare),
        Job("lookup", _lookup, lookup),
        Job("3 methods, label", _edits(THREE, "label"), three),
        Job("lookup + 3 methods", _both, both.flops, 2.0, fills_cache=True),
        Job("auto-feat, class", _edits(("auto-feat",), "class"), all_classes, 8.0),
    ]


@torch.inference_mode()
def _bare(world: World, progress: Progress) -> None:
    vit = world.pipeline.vit
    advance = progress("bare", len(world.dataset))
    for batch in world.loader:
        vit.model(batch.images_bchw.to(world.device, vit.dtype, non_blocking=True))
        advance(len(batch))


def _lookup(world: World, progress: Progress) -> None:
    thresholds = Thresholds.shares_of_maximum(SHARES, world.pipeline.latent_stats)
    count_detections(world.pipeline, world.loader, LABEL_THRESHOLD, thresholds, progress)


def _edits(methods: Sequence[str], protocol: Any) -> Work:
    def run(world: World, progress: Progress) -> None:
        n_classes = world.size.n_classes
        groups = world.groups(range(1, n_classes + 1))
        made = ours.interventions(world, methods, ours.SCALES[:1], groups)
        evaluate(
            world.pipeline, made, world.loader, protocol, n_classes=n_classes, progress=progress
        )

    return run


def _both(world: World, progress: Progress) -> None:
    """One forward pass per image: the second part reads what the first has kept."""
    stretched = _Joined(progress)
    _lookup(world, stretched)
    _edits(THREE, "label")(world, stretched)


class _Joined:
    """Two tasks told to one progress as one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._advance: Advance | None = None

    def __call__(self, description: str, total: int, unit: str = "images") -> Advance:
        self._advance = self._advance or self._progress(description, total, unit)
        return self._advance


def measure_full(
    world: World,
    chosen: Sequence[Job],
    repeats: int,
    say: Callable[[str], None],
    width_height: tuple[int, int] = WIDTH_HEIGHT,
) -> dict[str, Any]:
    """Writes the files, runs the jobs and every stage; the numbers of the JSON."""
    size = world.size
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing {size.n_images} images")
        root = write_dataset(Path(folder) / "data", size.n_images, width_height, size.n_classes)
        vit = world.pipeline.vit
        dataset = open_dataset(root, SPLIT, size.patch_px, preprocessing=vit.preprocessing)
        world = replace(world, dataset=dataset)
        device = measure_device(world, vit.dtype)
        found = {job.name: _measure(job, world, Path(folder), repeats, say) for job in chosen}
        say("stages")
        parts = [asdict(stage) for stage in stages(world, device)]
    rows = [
        {
            "name": job.name,
            "seconds": found[job.name],
            "at_most": job.at_most,
            "floor_flops": job.flops * size.n_images,
        }
        for job in chosen
    ]
    return {"device": asdict(device), "rows": rows, "stages": parts}


def _measure(
    job: Job, world: World, folder: Path, repeats: int, say: Callable[[str], None]
) -> list[float]:
    """Seconds in the steady state; the first run is the warm-up where there is more than one."""
    say(job.name)
    taken = []
    for i in range(repeats + 1):
        ready = world
        if job.fills_cache:
            cache = ResidualCache(folder / f"activations-{i}", CACHE_BYTES, "random")
            ready = replace(world, pipeline=replace(world.pipeline, cache=cache))
        watch = Stopwatch(ready)
        job.run(ready, watch)
        taken.append(watch.steady())
    return taken[1:]


ROWS = (
    Column("name", "run", "text"),
    Column("seconds_shown", "seconds", "setting"),
    Column("at_most", "at most", "setting"),
    Column("rate", "images/s", "setting"),
    Column("floor_shown", "TFLOP", "setting"),
    Column("speed", "TFLOP/s", "setting"),
)
STAGES = (
    Column("name", "stage", "text"),
    Column("seconds_shown", "seconds", "setting"),
    Column("floor_shown", "floor", "setting"),
    Column("by_floor", "x floor", "setting"),
)


def full_tables(title: str, results: dict[str, Any], n_images: int) -> list[Table]:
    """Runs and stages as tables."""
    rows, parts = [], []
    for row in results["rows"]:
        seconds, flops = sorted(row["seconds"])[len(row["seconds"]) // 2], row["floor_flops"]
        rows.append(
            row
            | {
                "seconds_shown": f"{seconds:.3g}",
                "rate": f"{n_images / seconds:.0f}",
                "floor_shown": f"{flops / 1e12:.3g}",
                "speed": f"{flops / seconds / 1e12:.3g}",
            }
        )
    for stage in results["stages"]:
        parts.append(
            stage
            | {
                "seconds_shown": f"{stage['seconds']:.3g}",
                "floor_shown": f"{stage['floor']:.3g}",
                "by_floor": f"{stage['seconds'] / stage['floor']:.2f}",
            }
        )
    notes = ("Seconds for all images at the rate after the first batch, decoding included.",)
    return [
        Table(title, ROWS, tuple(rows), notes),
        Table(f"Stages by themselves, all {n_images} images", STAGES, tuple(parts)),
    ]
