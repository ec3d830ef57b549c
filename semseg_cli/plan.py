"""What a command would do: its size, and a time estimated from one real batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semseg_cli.config import Choose, MeanDiff, Method, RandVec
from semseg_cli.data import Dataset, Loader
from semseg_cli.interventions import needs_latents
from semseg_cli.pipeline import Encoder
from semseg_cli.ranks import n_ranks
from semseg_cli.session import Session

SAMPLE_IMAGES = 8


@dataclass(frozen=True)
class Plan:
    """Numbers of images that go through the ViT up to the layer, and of passes after it.

    `kept_bytes` are those that activations would newly take on disk; None without a cache.
    """

    n_images: int
    n_lookup_images: int
    n_classes: int
    n_prefixes: int
    n_tails: int
    seconds: float
    kept_bytes: int | None

    def lines(self) -> list[str]:
        """The plan in words."""
        minutes = self.seconds / 60
        took = f"{minutes:.1f} minutes" if minutes >= 2 else f"{self.seconds:.0f} s"
        kept = "none" if self.kept_bytes is None else f"{self.kept_bytes / 2**30:.2f} GiB"
        return [
            f"images to evaluate: {self.n_images}; to choose latents on: {self.n_lookup_images}",
            f"classes: {self.n_classes}",
            f"passes up to the layer: {self.n_prefixes}; passes after it: {self.n_tails}",
            f"activations to keep on disk: {kept}",
            f"estimated time: {took} on {{device}} (from {SAMPLE_IMAGES} images or fewer)",
        ]


def make_plan(session: Session, methods: Sequence[Method | Choose]) -> Plan:
    """The size and estimated time of running these methods in one pass."""
    evaluates = [m for m in methods if not isinstance(m, Choose)]
    dataset = session.dataset if evaluates else session.lookup_dataset
    n_classes = len(session.classes_of(dataset))
    looks_up = [m for m in methods if _looks_up(m)]
    needs_stats = session.is_missing_stats
    n_lookup = len(session.lookup_dataset) if looks_up or needs_stats else 0
    n_images = len(session.dataset) if evaluates else 0
    n_differences = sum(isinstance(m, MeanDiff) for m in methods)
    n_passes = len(looks_up) + needs_stats + n_differences
    n_tails = sum(_edits_per_image(m, n_classes, session) for m in evaluates) * n_images
    n_tails += n_images  # the clean prediction
    for method in looks_up:
        if method.select == "causal":
            per_row = min(2 * method.select_images, n_lookup)
            n_tails += per_row * method.top_k * n_classes * len(method.scale) + n_lookup
            n_passes += 1
    used = [(session.lookup_dataset, n_passes)] if n_lookup else []
    used += [(session.dataset, 1)] if evaluates else []
    n_prefixes, kept_bytes = _prefixes(session, used)
    prefix, tail = _measure(session, dataset)
    seconds = (n_prefixes * prefix + n_tails * tail) / n_ranks()
    return Plan(n_images, n_lookup, n_classes, n_prefixes, n_tails, seconds, kept_bytes)


def _prefixes(session: Session, used: Sequence[tuple[Dataset, int]]) -> tuple[int, int | None]:
    """Passes up to the layer over these datasets, so many times each, and bytes that are kept."""
    encoder, cache = session.encoder, session.encoder.cache
    if cache is None:
        return sum(len(dataset) * n_times for dataset, n_times in used), None
    different = {dataset.digest: dataset for dataset, _ in used}.values()
    missing = [cache.missing(encoder.vit, encoder.layer, dataset) for dataset in different]
    return sum(n for n, _ in missing), sum(n_bytes for _, n_bytes in missing)


def _looks_up(method: Method | Choose) -> bool:
    if isinstance(method, Choose):
        return True
    return needs_latents(method) and method.lookup is None


def _edits_per_image(method: Method, n_classes: int, session: Session) -> int:
    is_shared = isinstance(method, RandVec) and method.match == "none"
    per_scale = 1 if is_shared or session.setup.protocol == "label" else n_classes
    return per_scale * len(method.scale) * getattr(method, "draws", 1)


def _measure(session: Session, dataset: Dataset) -> tuple[float, float]:
    """Seconds per image up to the layer (loading and encoding included), and after it."""
    encoder, n_images = session.encoder, min(SAMPLE_IMAGES, len(dataset))

    def load() -> None:
        for position in range(n_images):
            _ = dataset[position]

    images = next(iter(Loader(dataset, n_images))).images_bchw
    tokens = encoder.residual(images)
    loading = _seconds(load)
    prefix = _seconds(lambda: encoder.residual(images))
    encoding = _seconds(lambda: _encode(encoder, tokens))
    tail = _seconds(lambda: encoder.vit.tail(tokens, encoder.layer))
    return (loading + prefix + encoding) / n_images, tail / len(images)


@torch.inference_mode()
def _encode(encoder: Encoder, tokens_bnd: Tensor) -> None:
    sae = encoder.sae
    for part_nd in encoder.patches(tokens_bnd).flatten(0, 1).split(sae.chunk_rows):
        sae.encode(sae.scale(part_nd))


def _seconds(work: Callable[[], object]) -> float:
    """The faster of two runs: the first one also warms up."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # launching is not running
        taken.append(time.perf_counter() - start)
    return min(taken)
