"""Example images of an intervention: the edit runs again on the few images that are shown."""

import re
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.loader import Loader
from semseg_cli.data.preprocessing import image_pixels
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edited_batch import clean_state, edited_by_patch, row_of_patch
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.experiment.run import Outcome
from semseg_cli.experiment.session import Session
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.show.example_picture import Example, example_figure
from semseg_cli.show.run_pictures import attempt


def example_panels(session: Session, outcome: Outcome, n: int, folder: Path) -> None:
    """Pictures of `n` images each of the classes with the largest and the smallest effect.

    Of several draws the first is shown.

    Args:
        session: whose parts and images the outcome comes from.
        outcome: one method at one scale.
        n: images per class, at most.
        folder: made where it does not exist; file names say effect, class, rank and image.
    """
    dataset = session.dataset
    for effect, result in extreme_classes(outcome.report).items():
        for rank, position in enumerate(best_images(outcome.counts, result.class_id, n), start=1):
            example = _example(session, outcome, result, position, effect)
            parts = (effect, result.class_name, str(rank), dataset.names[position])
            name = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", part)[:40] for part in parts)
            example_figure(example, dataset.class_names, folder / f"{name}.png")


def extreme_classes(report: Report) -> dict[str, ClassResults]:
    """The classes of largest and smallest selectivity with at least `min_patches` patches.

    A single such class is the largest one.
    """
    least = report.least_patches
    ranked = sorted(
        (result for result in report.class_results if result.n_orig_patches >= least),
        key=lambda result: (-result.selectivity, result.class_id),
    )
    ends = {"largest": ranked[:1], "smallest": ranked[1:][-1:]}
    return {effect: found[0] for effect, found in ends.items() if found}


def best_images(counts: Counts, class_id: int, n: int) -> list[int]:
    """Positions of at most `n` images that show the class and others.

    Whatever the edit did: first come the images of which the class covers closest to a half.
    """
    row = counts.class_ids.tolist().index(class_id)
    n_own, n_others = counts.per_image[:, row, 0], counts.per_image[:, row, 2]
    order = torch.argsort(torch.minimum(n_own, n_others), descending=True, stable=True)
    return [position for position in order.tolist() if n_own[position] > 0][:n]


def _example(
    session: Session, outcome: Outcome, result: ClassResults, position: int, effect: str
) -> Example:
    dataset, edit, report = session.dataset, outcome.intervention.first, outcome.report
    row = None if report.shared_edit else edit.class_ids.index(result.class_id)
    image_chw = dataset.image(position)
    ((batch, tokens_bnd),) = session.pipeline.residuals(Loader(dataset.subset([position]), 1))
    clean_bt, edited_bt = edited_predictions(session.pipeline, edit, batch, tokens_bnd, row)
    shape = [side // dataset.patch_size_px for side in image_chw.shape[1:]]
    truth, before, after = (
        values_bt[0].cpu().reshape(shape).numpy()
        for values_bt in (batch.labels_bt, clean_bt, edited_bt)
    )
    return Example(
        image_hwc=image_pixels(image_chw, dataset.preprocessing),
        truth=truth,
        before=before,
        after=after,
        class_id=result.class_id,
        title=(
            f"{result.class_name}: {effect} selectivity ({result.selectivity:.3f}), "
            f"{report.method} at scale {report.intervention_scale:g}, "
            f"image {dataset.names[position]}"
        ),
    )


def edited_predictions(
    pipeline: Pipeline, edit: Edit, batch: Batch, tokens_bnd: Tensor, row: int | None
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """The predictions before and after an edit, as they are counted.

    Args:
        pipeline: the frozen parts.
        edit: one draw of one method at one scale.
        batch: the images.
        tokens_bnd: their residuals.
        row: the edit's row that every patch gets; None where one pair of predictions serves all
            classes (the label protocol, shared edits).
    """
    state = clean_state(pipeline, batch, tokens_bnd, [Intervention((edit,))])
    rows_bt = row_of_patch(edit, batch) if row is None else torch.full_like(batch.labels_bt, row)
    if row is not None and edit.spares_own:
        rows_bt[state.clean_bt.cpu() == edit.class_ids[row]] = -1
    parts = edited_by_patch(pipeline, state, edit, rows_bt)
    return state.clean_bt, torch.cat([edited.prediction.classes_bt for _, edited in parts])


def add_examples(folder: RunFolder, session: Session, outcome: Outcome, n: int) -> None:
    """Draws examples/*.png of a run: `n` images each of two classes. Before `add_pictures`."""
    with attempt("examples"):
        example_panels(session, outcome, n, folder.path / "examples")
