"""A process of its own: does some work within budgets, prints by how much memory grew.

Its words are WORK-MIB[-largest] ...: WORK is a key of N_IMAGES; with `largest` the bound on
single tensors holds, as on a CPU, else the budget alone decides. Each is measured in a process of
its own, forked from one that has imported everything.
"""

import gc
import json
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from worlds import make_head, make_sae, make_vit, members, random_pairs, write_dataset

from benchmarks.memory import CLEAR, RESET_PEAK, status
from semseg_cli.data.dataset import open_dataset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.detections import count_detections
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.thresholds import SHARES, Thresholds
from semseg_cli.models.memory_budget import LARGEST_ON_CPU, Budget
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.models.vit import Backbone

D_MODEL, D_SAE, N_CLASSES = 384, 6144, 4
N_IMAGES = {"class": 20, "label": 36, "lookup": 36}  # enough batches for the peak to stay as it is
SIZES = {"hidden_size": D_MODEL, "num_hidden_layers": 2, "num_attention_heads": 6, "mlp_ratio": 4}


def make_pipeline(budget: Budget) -> Pipeline:
    """A random pipeline of half the width of a ViT-B, with as many tokens."""
    vit = Backbone(make_vit(registers=4, patch_size=14, **SIZES))
    sae = make_sae(D_MODEL, D_SAE)
    sae.W_dec *= 1e-3
    vit.budget = sae.budget = budget
    stats = SaeStats(torch.zeros(D_MODEL), 1.0, torch.full((D_SAE,), 0.001), torch.ones(D_SAE))
    head = make_head(D_MODEL, N_CLASSES)
    return Pipeline(vit=vit, layer=1, sae=sae, head=head, stats=stats)


def work(name: Any, pipeline: Pipeline, loader: Loader) -> None:
    """Looks latents up, or edits one per class in a protocol."""
    if name == "lookup":
        count_detections(pipeline, loader, 0.0, Thresholds(SHARES, torch.ones(D_SAE)))
        return
    evaluate(pipeline, [intervention(pipeline)], loader, name, n_classes=N_CLASSES)


def intervention(pipeline: Pipeline) -> Intervention:
    """One latent per class."""
    latents = members({c: 7 * c for c in range(1, N_CLASSES + 1)})
    return Intervention((set_latents(pipeline, "m", -2.0, latents),))


def measured(task: str) -> dict[str, int]:
    """Warms up on a single image, then measures."""
    name, mib, *largest = task.split("-")
    torch.set_num_threads(1)
    budget = Budget(int(float(mib) * 2**20), LARGEST_ON_CPU if largest else None)
    pipeline = make_pipeline(budget)
    n_latents = 0 if name == "lookup" else n_latents_held([intervention(pipeline)])
    n_images = min(N_IMAGES[name], budget.images_held(pipeline.vit.network, n_latents))
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), {"validation": random_pairs(N_IMAGES[name], 1, 5)}, names=None)
        dataset = open_dataset(Path(folder), "validation", 14, n_classes=N_CLASSES)
        work(name, pipeline, Loader(dataset.subset([0]), 1))
        CLEAR.write_text(RESET_PEAK)  # the peak starts again from here
        before = status("VmRSS")
        work(name, pipeline, Loader(dataset, n_images))
    growth = status("VmHWM") - before
    rows, patches = pipeline.rows_per_pass(), pipeline.sae.chunk_rows
    return {"growth": growth, "images": n_images, "rows": rows, "patches": patches}


def answer(task: str, end: Connection) -> None:
    """Measures in this process."""
    end.send(measured(task))


def main(tasks: list[str]) -> None:
    """Measures all at once, in forks of the main thread: others have no heap that shrinks."""
    fork, answers = get_context("fork"), {}
    gc.freeze()  # else every process looks through all of it when it ends
    for task in tasks:
        answers[task], end = fork.Pipe(duplex=False)
        fork.Process(target=answer, args=(task, end)).start()
        end.close()
    print(json.dumps({task: pipe.recv() for task, pipe in answers.items()}))
