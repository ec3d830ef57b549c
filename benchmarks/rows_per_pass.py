"""How many rows should go through at once? Times per row by rows per pass, as ratios to the best.

python benchmarks/rows_per_pass.py [float32|bfloat16]: a ViT-B of 2 blocks (random weights, 261
tokens, 151 classes) and an autoencoder of 24,576 latents. Processor time of one thread, since a
shared machine makes wall time useless; interleaved, medians of five.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from semseg_cli.engine.detections import Detections
from semseg_cli.engine.thresholds import SHARES, Thresholds
from semseg_cli.models.head import SegmentationHead, argmax_logits
from semseg_cli.models.memory_budget import Budget
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.vit import Backbone

D_MODEL, D_SAE, N_CLASSES, N_IMAGES, N_PATCHES, REPEATS = 768, 24_576, 150, 128, 4096, 5
ROWS = (1, 4, 8, 10, 16, 32, 64, 128)
PATCHES = (32, 64, 128, 256, 341, 512, 1024, 2730)


def make_vit(dtype: torch.dtype) -> Backbone:
    """All of a batch in one pass: what is measured here decides the passes."""
    config = Dinov2WithRegistersConfig(
        num_hidden_layers=2, num_register_tokens=4, image_size=518, patch_size=14
    )
    vit = Backbone(Dinov2WithRegistersModel(config).to(dtype))
    vit.budget = Budget(2**40, None)
    return vit


def tail(vit: Backbone) -> Callable[[int], int]:
    """The last block, final norm, head and argmax of so many rows."""
    head = SegmentationHead(D_MODEL, N_CLASSES + 1)
    tokens = torch.randn(N_IMAGES, 261, D_MODEL, dtype=vit.dtype)

    def run(n: int) -> int:
        argmax_logits(head(vit.tail(tokens[:n], 1).float()))
        return n

    return run


def prefix(vit: Backbone) -> Callable[[int], int]:
    """Embeddings and one block of so many images."""
    images = torch.randn(N_IMAGES, 3, 224, 224)

    def run(n: int) -> int:
        vit.prefix(images[:n], 1)
        return n

    return run


def encoding() -> Callable[[int], int]:
    """Encoding and counting of so many patches at once; about 33 latents are active."""
    w_dec = torch.nn.functional.normalize(torch.randn(D_SAE, D_MODEL), dim=1)
    bias = torch.full((D_SAE,), -3.0)
    sae = SparseAutoencoder(w_dec.T.contiguous(), bias, w_dec, torch.zeros(D_MODEL))
    x_nd, labels_n = torch.randn(N_PATCHES, D_MODEL), torch.arange(N_PATCHES) % N_CLASSES
    detections = Detections(1, N_CLASSES, D_SAE, Thresholds(SHARES, torch.full((D_SAE,), 2.0)))

    def run(n: int) -> int:
        for part_nd, part_n in zip(x_nd.split(n), labels_n.split(n), strict=True):
            detections.add(sae.encode(sae.scale(part_nd)), part_n)
        return N_PATCHES

    return run


def seconds_per_row(run: Callable[[int], int], n: int, least: float = 0.5) -> float:
    """Repeats a pass for at least so many seconds."""
    start, done = time.process_time(), 0
    while (taken := time.process_time() - start) < least or not done:
        done += run(n)
    return taken / done


@torch.inference_mode()
def table(name: str, run: Callable[[int], int], sizes: Sequence[int]) -> None:
    """Prints one line per size: milliseconds per row, ratio to the best."""
    run(sizes[0])
    taken: dict[int, list[float]] = {n: [] for n in sizes}
    for _ in range(REPEATS):
        for n in sizes:
            taken[n].append(seconds_per_row(run, n))
    medians = {n: statistics.median(each) for n, each in taken.items()}
    best = min(medians.values())
    for n, median in medians.items():
        print(f"{name:8} {n:5} {1e3 * median:8.3f} ms {median / best:6.2f}")


def main(dtype: str = "float32") -> None:
    """Prints all three tables."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {dtype}")
    vit = make_vit(getattr(torch, dtype))
    table("tail", tail(vit), ROWS)
    table("prefix", prefix(vit), ROWS)
    if dtype == "float32":
        table("encode", encoding(), PATCHES)


if __name__ == "__main__":
    main(*sys.argv[1:])
