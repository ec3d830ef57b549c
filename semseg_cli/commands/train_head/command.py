"""`train-head`: linear segmentation heads on frozen features, and the best of them as a file.

Heads are chosen on held-out images of the training split; the chosen one is measured, once, on the
split that interventions are evaluated on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from semseg_cli.commands.next_steps import print_where
from semseg_cli.commands.opening import demo_notes, is_demo, open_store, tell_of_demo, tell_plan
from semseg_cli.commands.recording import (
    Planned,
    dataset_meta,
    meta_of,
    recorded,
    require_tracked,
    settings_of,
)
from semseg_cli.commands.replaced import keeping
from semseg_cli.commands.train_head.checkpoint import load_checkpoint, save_checkpoint
from semseg_cli.commands.train_head.features import (
    Storage,
    residuals_for_head,
    training_patches,
    validation_images,
)
from semseg_cli.commands.train_head.held_out import hold_out
from semseg_cli.commands.train_head.plan import Parts, plan_lines
from semseg_cli.commands.train_head.scoring import score_heads
from semseg_cli.commands.train_head.sweep import Best, Sweep, train_heads
from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.segmentation import Segmentation
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.images import find_data, make_loader, open_split
from semseg_cli.experiment.named_inputs import require_inputs
from semseg_cli.experiment.parts import (
    find_device,
    load_backbone,
    residual_cache,
)
from semseg_cli.files import cache_folder, make_room
from semseg_cli.models.head import save_head
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.folder import (
    HEAD_CLASSES_FILE,
    HEAD_FILE,
    HEAD_TENSORS_FILE,
    METRICS_FILE,
    SWEEP_FILE,
    RunFolder,
)
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.command_line import typed
from semseg_cli.settings.inputs import TrainSetup
from semseg_cli.settings.output import Recorded
from semseg_cli.settings.training import Training
from semseg_cli.show import console
from semseg_cli.show.run_tables import sweep_table

NEEDED = ("vit_ckpt", "imgs_root")
N_NAMED = 8  # absent classes named below the table; classes.csv has all


def train_head(setup: TrainSetup, training: Training, output: Recorded) -> None:
    """Trains a sweep of heads, keeps the best in a run folder, tracks it, shows the sweep."""
    store = open_store(output)
    if training.save is not None:
        make_room(training.save, "--save")
    with console.progress_bars(quiet=output.quiet) as progress:
        tell_of_demo(setup, output)
        parts = load_parts(setup, training, progress)
        storage = storage_of(setup, training)
        if output.dry_run:
            tell_plan(plan_lines(setup, training, parts, storage), is_all=True)
            return
        sweep = make_sweep(setup, training, parts)
        datasets = [
            dataset_meta(parts.training, "training"),
            dataset_meta(parts.held_out, "held-out"),
            dataset_meta(parts.evaluation, "evaluation"),
        ]
        shared = meta_of(output, datasets, {"vit": parts.vit.digest})
        with recorded([_planned(setup, training, output)], shared, output, store) as folders:
            heads = _train(setup, training, parts, storage, sweep, folders[0], progress)
            rows, (winner, best) = sweep_rows(sweep.rates, heads), best_of(heads)
            _write_heads(folders[0], rows, best, parts)
            if training.save is not None:
                with keeping(training.save, quiet=output.quiet):
                    save_head(training.save, best.to_head(), "--save", parts.seen)
            found = measured(setup, parts, storage, best, progress)
            measures = {**rows[winner], "n_epochs": sweep.epoch}
            _write_measures(folders[0], measures, found, parts)
    notes = [*demo_notes(setup), *_notes(found, parts)]
    console.show(sweep_table(rows, notes), output.format)
    require_tracked(folders)
    file = training.save or folders[0].path / HEAD_FILE
    preset = "--preset demo " if is_demo(setup) else ""
    print_where(folders, store, output, [f"Use:     {preset}{typed('--seg-ckpt', file)}"])


def load_parts(setup: TrainSetup, training: Training, progress: Progress = silent) -> Parts:
    """Loads and checks what the settings name.

    Raises:
        SemsegError: something is missing, unreadable, or does not fit the rest.
    """
    require_inputs(setup, NEEDED)
    device = find_device(setup.device)
    find_data(setup, [setup.lookup_split, setup.imgs.split], progress)
    vit = load_backbone(setup, device)
    dataset = open_split(setup, vit, setup.lookup_split, setup.lookup_images, progress)
    learnt, held_out = hold_out(dataset, training.held_out, training.group_by, setup.seed)
    evaluation = open_split(setup, vit, setup.imgs.split, setup.images, progress)
    return Parts(vit, dataset, learnt, held_out, evaluation, device)


def storage_of(setup: TrainSetup, training: Training) -> Storage:
    """Where features are kept."""
    dtype = getattr(torch, training.feature_dtype)
    return Storage(dtype, int(training.memory_gib * 2**30), cache_folder(setup.cache_dir))


def make_sweep(setup: TrainSetup, training: Training, parts: Parts) -> Sweep:
    """New heads, or those of the run to go on with."""
    n_classes = len(parts.training.class_names)
    sweep = Sweep(
        training.rates, parts.vit.d_model, n_classes, setup.seed, training.patience, parts.device
    )
    if training.resume is not None:
        load_checkpoint(training.resume, sweep, decisive(setup, training, parts))
    return sweep


def decisive(setup: TrainSetup, training: Training, parts: Parts) -> dict[str, Any]:
    """Everything that a training depends on, by option; it must not change on the way."""
    return {
        "--lr": list(training.lr),
        "--weight-decay": list(training.weight_decay),
        "--patience": training.patience,
        "--patches-per-step": training.patches_per_step,
        "--ignore-null": training.ignore_null,
        "--feature-dtype": training.feature_dtype,
        "--label-threshold": setup.label_threshold,
        "--dtype": setup.dtype,
        "--seed": setup.seed,
        "--vit-ckpt": parts.vit.digest,
        "preprocessing": repr(parts.vit.preprocessing),
        "--held-out": training.held_out,
        "--group-by": training.group_by,
        "lookup split": parts.lookup.digest,
    }


def _planned(setup: TrainSetup, training: Training, output: Recorded) -> Planned:
    meta = {
        "kind": "train-head",
        "command": "train-head",
        "method": "train-head",
        "run_name": output.run_name or "train-head",
    }
    return Planned(meta, settings_of(setup, training, without=("resume",)))


def _train(
    setup: TrainSetup,
    training: Training,
    parts: Parts,
    storage: Storage,
    sweep: Sweep,
    folder: RunFolder,
    progress: Progress,
) -> list[Best | None]:
    settings = decisive(setup, training, parts)
    cache = residual_cache(setup)
    learnt, judged = (
        residuals_for_head(parts.vit, make_loader(setup, dataset, parts.vit), cache)
        for dataset in (parts.training, parts.held_out)
    )
    threshold, no_null = setup.label_threshold, training.ignore_null
    learn = training_patches(learnt, storage, threshold, ignore_null=no_null, progress=progress)
    with learn as patches, validation_images(judged, storage, progress) as images:
        train_heads(
            sweep,
            patches,
            images,
            training.epochs,
            training.patches_per_step,
            lambda after: save_checkpoint(folder, after, settings),
            progress,
        )
        return sweep.judged(images, progress)


def measured(
    setup: TrainSetup, parts: Parts, storage: Storage, best: Best, progress: Progress
) -> Segmentation:
    """How well a head segments the images of the evaluation split."""
    loader = make_loader(setup, parts.evaluation, parts.vit)
    residuals = residuals_for_head(parts.vit, loader, residual_cache(setup))
    with validation_images(residuals, storage, progress) as images:
        weight_kcd, bias_kc = (one[None].to(parts.device) for one in (best.weight_cd, best.bias_c))
        (found,) = score_heads(weight_kcd, bias_kc, images, parts.device)
    return found


def best_of(heads: Sequence[Best | None]) -> tuple[int, Best]:
    """The head with the largest mIoU (ties: the first), and its place among all.

    Raises:
        SemsegError: the weights of all heads overflowed.
    """
    scored = [(k, best) for k, best in enumerate(heads) if best is not None]
    if not scored:
        raise SemsegError(
            "The weights of all heads overflowed in their first epoch: give a smaller --lr."
        )
    return max(scored, key=lambda one: one[1].score.miou)


def sweep_rows(
    rates: Sequence[tuple[float, float]], heads: Sequence[Best | None]
) -> list[dict[str, Any]]:
    """One row per head, at its best epoch; no numbers for one that overflowed at once."""
    rows = []
    for (lr, decay), best in zip(rates, heads, strict=True):
        found = (best.score.miou, best.score.accuracy, best.epoch) if best else (None, None, None)
        measures = dict(zip(("miou", "accuracy", "epoch"), found, strict=True))
        rows.append({"lr": lr, "weight_decay": decay, **measures})
    return rows


def iou_rows(found: Segmentation, dataset: Dataset) -> list[dict[str, Any]]:
    """One row per class; no IoU for one that does not occur."""
    names = enumerate(dataset.class_names, start=1)
    return [{"class_id": c, "class_name": name, "iou": found.ious.get(c)} for c, name in names]


def _write_heads(
    folder: RunFolder, rows: Sequence[Mapping[str, Any]], best: Best, parts: Parts
) -> None:
    for name in (HEAD_FILE, HEAD_TENSORS_FILE):
        save_head(folder.path / name, best.to_head(), seen=parts.seen)
    folder.write(SWEEP_FILE, csv_text(rows).encode())


def _write_measures(
    folder: RunFolder, measures: Mapping[str, Any], found: Segmentation, parts: Parts
) -> None:
    folder.write(HEAD_CLASSES_FILE, csv_text(iou_rows(found, parts.evaluation)).encode())
    metrics = {**measures, "evaluation_miou": found.miou, "evaluation_accuracy": found.accuracy}
    folder.write_json(METRICS_FILE, {name: float(value) for name, value in metrics.items()})


def _notes(found: Segmentation, parts: Parts) -> Sequence[str]:
    dataset = parts.evaluation
    absent = [dataset.class_names[c - 1] for c in found.absent]
    notes = [
        f"mIoU, pixel accuracy: on {len(parts.held_out)} held-out images of the "
        f"{parts.training.split} split, mean over classes, from all pixels that have one; the best "
        f"head is chosen by it. Learnt from {len(parts.training)} others.",
        f"The chosen head on the {dataset.split} split, {len(dataset)} images: mIoU "
        f"{found.miou:.3f}, mean over {len(found.ious)} classes from all pixels that have one; "
        f"pixel accuracy {found.accuracy:.3f}.",
    ]
    if absent:
        rest = f" and {len(absent) - N_NAMED} more" if len(absent) > N_NAMED else ""
        notes.append(f"Not there, so not in the mean: {'; '.join(absent[:N_NAMED])}{rest}.")
    return notes
