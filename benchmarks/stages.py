"""Each stage of a run by itself, over all batches of a dataset, against what the device can do."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import floors
from benchmarks.timing import wait
from benchmarks.world import World
from semseg_cli.data.batches import Batch
from semseg_cli.engine.detections import Detections
from semseg_cli.engine.thresholds import SHARES, Thresholds

SQUARE = 8192  # side of the matrices that tell what the device can do
SMALL_SQUARE = 1024  # on a CPU
COPIED = 2**28  # numbers
SMALL_COPIED = 2**22
KEPT_BATCHES = 4  # stages after decoding run on these, again and again


@dataclass(frozen=True)
class Device:
    """What was measured of the device: FLOP/s of matrix products, bytes/s read or written."""

    flops: float
    exact_flops: float
    memory: float
    transfer: float


def best_seconds(run: Callable[[], Any], world: World, n: int = 5) -> float:
    """The least time of some runs."""
    taken = []
    for _ in range(n):
        wait(world)
        start = time.perf_counter()
        run()
        wait(world)
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure_device(world: World, dtype: torch.dtype) -> Device:
    """Large products in the ViT's precision and in float32, copies on the device and to it."""
    is_cuda = world.device.type == "cuda"
    n = SQUARE if is_cuda else SMALL_SQUARE
    copied = COPIED if is_cuda else SMALL_COPIED

    def product(kind: torch.dtype) -> float:
        a, b = (torch.randn(n, n, device=world.device).to(kind) for _ in range(2))
        return 2 * n**3 / best_seconds(lambda: a @ b, world)

    here = torch.zeros(copied)
    here = here.pin_memory() if is_cuda else here
    there, other = (torch.zeros(copied, device=world.device) for _ in range(2))
    return Device(
        flops=product(dtype),
        exact_flops=product(torch.float32),
        memory=2 * 4 * copied / best_seconds(lambda: there.copy_(other), world),
        transfer=4 * copied / best_seconds(lambda: there.copy_(here), world),
    )


@dataclass(frozen=True)
class Stage:
    """Seconds of a stage over all images, and the least that the device would need."""

    name: str
    seconds: float
    floor: float


@torch.inference_mode()
def stages(world: World, device: Device) -> list[Stage]:
    """Decode, transfer, prefix, encode, count, one tail per image."""
    size, n = world.size, len(world.dataset)
    start = time.perf_counter()
    kept: list[Batch] = []
    for batch in world.loader:
        if len(kept) < KEPT_BATCHES:
            kept.append(batch)
    decode = time.perf_counter() - start
    found = [Stage("decode", decode, _decode_floor(world))]
    per_image = {
        "transfer": 3 * size.image_px**2 * 4 / device.transfer,
        "prefix": floors.prefix(size).flops / device.flops,
        "encode": floors.encoder(size, size.d_sae).flops / device.exact_flops,
        "count": size.n_patches * size.d_sae * 4 / device.memory,
        "tail": floors.tail(size).flops / device.flops,
    }
    for name, run in _works(world, kept):
        seconds = best_seconds(run, world, 3)
        n_run = sum(map(len, kept))
        found.append(Stage(name, seconds * n / n_run, per_image[name] * n))
    return found


def _decode_floor(world: World, n: int = 32) -> float:
    """All images at the speed of one process, shared evenly among the workers."""
    some = range(min(n, len(world.dataset)))
    start = time.perf_counter()
    for i in some:
        world.dataset[i]
    each = (time.perf_counter() - start) / len(some)
    return each * len(world.dataset) / max(1, world.n_workers)


def _works(world: World, kept: list[Batch]) -> Iterator[tuple[str, Callable[[], Any]]]:
    pipeline, sae = world.pipeline, world.pipeline.sae
    images = [batch.images_bchw.to(world.device) for batch in kept]
    yield "transfer", lambda: [b.images_bchw.to(world.device, non_blocking=True) for b in kept]
    yield "prefix", lambda: [pipeline.residual(each) for each in images]
    tokens = [pipeline.residual(each) for each in images]
    patches_nd = torch.cat([pipeline.patches(each).flatten(0, 1) for each in tokens])
    parts = patches_nd.split(sae.chunk_rows)
    yield "encode", lambda: [sae.encode(sae.scale(part)) for part in parts]
    f_ns = sae.encode(sae.scale(parts[0]))
    labels_n = torch.cat([batch.labels_bt.flatten() for batch in kept])[: len(f_ns)]
    labels_n = labels_n.to(world.device)
    thresholds = Thresholds.shares_of_maximum(SHARES, pipeline.latent_stats)
    detections = Detections(0, world.size.n_classes, sae.d_sae, thresholds, world.device)
    yield "count", lambda: [detections.add(f_ns, labels_n) for _ in parts]
    yield "tail", lambda: [pipeline.predict(each) for each in tokens]
