"""What changed class means: right or wrong, inside or at a border, near or far, by how much.

Sums per image and row, filled in the pass that `Counts` is filled in. All but margins and lengths
are integers; as float64 they are exact, and add up in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from semseg_cli.engine.neighbours import is_near
from semseg_cli.models.pipeline import Prediction
from semseg_cli.ranks.collectives import all_sum, gather_counts
from semseg_cli.runs.outcomes import COLUMNS, Table
from semseg_cli.typed import typed

ROUNDING = 1e-9  # of margins' squares


@dataclass(frozen=True)
class Clean:
    """Patches of some images before any edit; `lengths_bt` are the residuals'.

    `is_interior_bt` says which have the same predicted class as all their neighbours.
    """

    labels_bt: Int64[Tensor, "b t"]
    prediction: Prediction
    is_interior_bt: Bool[Tensor, "b t"]
    lengths_bt: Float[Tensor, "b t"]

    def of(self, images_p: Int64[Tensor, " p"]) -> "Clean":
        """The patches of these images."""
        classes_bt, margins_bt = self.prediction.classes_bt, self.prediction.margins_bt
        return Clean(
            self.labels_bt[images_p],
            Prediction(classes_bt[images_p], margins_bt[images_p]),
            self.is_interior_bt[images_p],
            self.lengths_bt[images_p],
        )


@dataclass(frozen=True)
class Edited:
    """The same patches after an edit: what it added (L2 lengths), and what is predicted now.

    Margins are those of the clean classes. Quantiles tell how far off the clean residuals they are.
    """

    prediction: Prediction
    lengths_pt: Float[Tensor, "p t"]
    quantiles_pt: Float[Tensor, "p t"] | None = None


class Reference:
    """What all rows are held against: clean labels, classes and margins of all evaluated images.

    `segmented` [classes, 3] holds labelled patches by label, those of them predicted right, and
    those labelled at all by prediction; `margins` how many there are, their sum and their squares'.
    """

    def __init__(self, n_classes: int) -> None:
        self.segmented = torch.zeros(n_classes, 3, dtype=torch.int64)
        self.margins = torch.zeros(3, dtype=torch.float64)

    @property
    def totals(self) -> tuple[Tensor, ...]:
        """What is summed over images."""
        return (self.segmented, self.margins)

    def add(self, clean: Clean) -> None:
        """Adds up the patches of a batch."""
        labels_n, classes_n = clean.labels_bt.flatten(), clean.prediction.classes_bt.flatten()
        found = _by_class(labels_n[None], classes_n[None], len(self.segmented))[0]
        of_label = torch.bincount(labels_n, minlength=len(self.segmented) + 1)[1:]
        self.segmented += torch.cat([of_label[:, None], found], dim=1).cpu()
        margins = clean.prediction.margins_bt.double()
        self.margins += torch.stack(
            [torch.ones_like(margins).sum(), margins.sum(), (margins**2).sum()]
        ).cpu()

    def add_ranks(self) -> None:
        """Adds what the other ranks have seen."""
        all_sum(self.segmented, self.margins)

    @property
    def deviation(self) -> float:
        """The standard deviation of the margins of all patches; 1 where only rounding differs."""
        mean, square = (self.margins[1:] / self.margins[0].clamp(min=1)).tolist()
        variance = square - mean**2
        return variance**0.5 if variance > ROUNDING * square else 1.0


@typed
def _by_class(
    labels_pt: Int64[Tensor, "p t"], classes_pt: Int[Tensor, "p t"], n_classes: int
) -> Int64[Tensor, "p c 2"]:
    """Labelled patches of each image by prediction: those that are right, and all."""
    cells_pt = torch.arange(len(labels_pt), device=labels_pt.device)[:, None] * n_classes
    cells_pt = cells_pt + classes_pt - 1
    n_cells = len(labels_pt) * n_classes
    masks = (labels_pt == classes_pt, labels_pt > 0)
    found = [torch.bincount(cells_pt[mask], minlength=n_cells) for mask in masks]
    return torch.stack(found, dim=1).view(-1, n_classes, 2)


class Outcomes:
    """What one edit did, per image and row, all its draws added up.

    `per_image` [n_images, rows, columns] has the columns of `runs.outcomes`, `segmented`
    [rows, classes, 2] how many more labelled patches there are after the edits by prediction, those
    that are right and all, `of_absent` how many of these in images without the row's class. Where a
    row is run on a sample of these, each of them stands for `factor_k` images.
    On one of several ranks, `per_image` has its own images only, the first at position `begin`,
    until `gather_images`. `is_placed` says that edits come with quantiles.
    """

    def __init__(
        self,
        class_ids: Sequence[int],
        n_images: int,
        grid: tuple[int, int],
        reference: Reference,
        begin: int = 0,
        is_placed: bool = False,
        factor_k: Float64[Tensor, " k"] | None = None,
    ) -> None:
        n_rows, n_classes = len(class_ids), len(reference.segmented)
        self.class_ids = torch.tensor(class_ids, dtype=torch.int64)
        self.per_image = torch.zeros(n_images, n_rows, len(COLUMNS), dtype=torch.float64)
        self.segmented = torch.zeros(n_rows, n_classes, 2, dtype=torch.int64)
        self.of_absent = torch.zeros_like(self.segmented)
        self.grid = grid
        self.reference = reference
        self.begin = begin
        self.is_placed = is_placed
        self.factor_k = factor_k

    @property
    def by_image(self) -> tuple[Tensor, ...]:
        """What there is one row of per image."""
        return (self.per_image,)

    @property
    def totals(self) -> tuple[Tensor, ...]:
        """What is summed over images."""
        return (self.segmented, self.of_absent)

    @typed
    def add_rows(
        self,
        images_p: Int64[Tensor, " p"],
        rows_p: Int64[Tensor, " p"],
        is_edited_pt: Bool[Tensor, "p t"] | None,
        clean: Clean,
        edited: Edited,
    ) -> None:
        """Adds edited images, each for its own row only (the class protocol).

        `is_edited_pt` says which patches were edited; None: all.
        """
        is_edited = None if is_edited_pt is None else is_edited_pt[:, None]
        self._add(images_p, rows_p[:, None], clean, edited, is_edited)
        found, rows = self._moved(clean, edited), rows_p.cpu()
        self.segmented.index_add_(0, rows, found)
        own_p1 = self.class_ids.to(rows_p.device)[rows_p][:, None]
        is_absent_p = ~(clean.prediction.classes_bt == own_p1).any(dim=1).cpu()
        self.of_absent.index_add_(0, rows, found * is_absent_p[:, None, None])

    @typed
    def add_pair(
        self,
        images_b: Int64[Tensor, " b"],
        rows_bt: Int64[Tensor, "b t"] | None,
        clean: Clean,
        edited: Edited,
    ) -> None:
        """Adds one edit of the whole image to every row.

        `rows_bt` has the row whose edit each patch got, -1 for none; None: it is every row's.
        """
        every = torch.arange(len(self.class_ids), device=images_b.device)
        is_edited = None if rows_bt is None else rows_bt[:, None] == every[:, None]
        self._add(images_b, every.expand(len(images_b), -1), clean, edited, is_edited)
        self.segmented += self._moved(clean, edited).sum(dim=0)

    def _moved(self, clean: Clean, edited: Edited) -> Tensor:
        """What the edit adds to each image's labelled patches, by prediction [p, classes, 2]."""
        n_classes = self.segmented.shape[1]
        pair = (edited.prediction.classes_bt, clean.prediction.classes_bt)
        after, before = (_by_class(clean.labels_bt, one_bt, n_classes) for one_bt in pair)
        return (after - before).cpu()

    def _add(
        self,
        images_p: Tensor,
        rows_pr: Tensor,
        clean: Clean,
        edited: Edited,
        is_edited_prt: Tensor | None,
    ) -> None:
        ids_pr1 = self.class_ids.to(rows_pr.device)[rows_pr][..., None]
        found = _columns(ids_pr1, clean, edited, is_edited_prt, self.grid)
        values = torch.stack([found[name] for name in COLUMNS], dim=-1).cpu()
        at = (images_p.cpu()[:, None] - self.begin, rows_pr.cpu())
        self.per_image.index_put_(at, values, accumulate=True)

    def add_ranks(self) -> None:
        """Adds the totals of the other ranks' images; `per_image` stays this rank's own."""
        all_sum(*self.totals)

    def gather_images(self, n_images: int) -> None:
        """Lets `per_image` have all `n_images` on the lead."""
        self.per_image = gather_counts(self.per_image, n_images)

    def to_table(self) -> Table:
        """All columns as [images, rows], margins in units of the clean margins' deviation."""
        columns = dict(zip(COLUMNS, self.per_image.unbind(dim=2), strict=True))
        numbers = {
            name: values.numpy() if name.endswith("_sum") else values.long().numpy()
            for name, values in columns.items()
        }
        if not self.is_placed:
            del numbers["off_manifold_sum"]
        for name in ("margin_drop_sum", "other_margin_sum"):
            numbers[name] = numbers[name] / self.reference.deviation
        return numbers

    def other_miou(self, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Per row the mean IoU of all other labelled classes, before and after so many edits; NaN
        without any."""
        labelled_c, right_c, predicted_c = self.reference.segmented.double().unbind(dim=1)
        moved_rc2 = self.segmented.double()
        if self.factor_k is not None:
            moved_rc2 = moved_rc2 + self.of_absent * (self.factor_k[:, None, None] - 1)
        before_rc = (right_c / (labelled_c + predicted_c - right_c)).expand(len(self.class_ids), -1)
        right_rc, all_rc = moved_rc2.unbind(dim=2)
        right_rc, all_rc = right_rc + n_draws * right_c, all_rc + n_draws * predicted_c
        after_rc = right_rc / (n_draws * labelled_c + all_rc - right_rc)
        counts_rc = (labelled_c > 0).repeat(len(self.class_ids), 1)
        counts_rc.scatter_(1, self.class_ids[:, None] - 1, False)
        before_r, after_r = (
            torch.where(counts_rc, ious_rc, 0).sum(dim=1) / counts_rc.sum(dim=1)
            for ious_rc in (before_rc, after_rc)
        )
        return before_r.numpy(), after_r.numpy()


def _columns(
    ids_pr1: Tensor,
    clean: Clean,
    edited: Edited,
    is_edited_prt: Tensor | None,
    grid: tuple[int, int],
) -> dict[str, Tensor]:
    """Every column [p, rows] of some edited images; rows are classes `ids_pr1`."""
    labels_pt, classes_pt = clean.labels_bt, clean.prediction.classes_bt
    after_pt = edited.prediction.classes_bt
    is_known, was_right, is_right = labels_pt > 0, labels_pt == classes_pt, labels_pt == after_pt
    is_changed = classes_pt != after_pt
    drops_pt = clean.prediction.margins_bt - edited.prediction.margins_bt
    quantiles_pt = edited.quantiles_pt
    facts = {
        "all": torch.ones_like(is_known),
        "changed": is_changed,
        "known": is_known,
        "right before": was_right,
        "right after": is_right,
        "wrong": is_known & ~was_right,
        "righted": is_right & ~was_right,
        "damaged": was_right & ~is_right,
        "interior": clean.is_interior_bt,
        "interior changed": clean.is_interior_bt & is_changed,
        "drop": drops_pt,
        "moved": drops_pt.abs(),
        "length": edited.lengths_pt,
        "quantile": torch.zeros_like(drops_pt) if quantiles_pt is None else quantiles_pt,
        "ratio": edited.lengths_pt / clean.lengths_bt.clamp(min=1e-12),
    }
    facts_ptm = torch.stack([fact.double() for fact in facts.values()], dim=2)

    def over(mask_prt: Tensor | None) -> dict[str, Tensor]:
        if mask_prt is None:
            sums_prm = facts_ptm.sum(dim=1, keepdim=True).expand(-1, ids_pr1.shape[1], -1)
        else:
            sums_prm = mask_prt.double() @ facts_ptm
        return dict(zip(facts, sums_prm.unbind(dim=2), strict=True))

    is_own_prt = classes_pt[:, None] == ids_pr1
    every, own, near = over(None), over(is_own_prt), over(is_near(is_own_prt, grid))
    labelled = over(labels_pt[:, None] == ids_pr1)
    now, moved = over(after_pt[:, None] == ids_pr1), over(is_edited_prt)
    return {
        "n_wrong_patches": own["wrong"],
        "n_righted": own["righted"],
        "n_damaged": every["damaged"] - own["damaged"],
        "n_repaired": every["righted"] - own["righted"],
        "n_interior_other": every["interior"] - own["interior"],
        "n_interior_changed": every["interior changed"] - own["interior changed"],
        "n_distant_other": every["all"] - near["all"],
        "n_distant_changed": every["changed"] - near["changed"],
        "n_labelled": labelled["all"],
        "n_right_before": labelled["right before"],
        "n_right_after": labelled["right after"],
        "n_union_before": labelled["all"] + own["known"] - labelled["right before"],
        "n_union_after": labelled["all"] + now["known"] - labelled["right after"],
        "n_labelled_other": every["known"] - labelled["all"],
        "n_other_right_before": every["right before"] - labelled["right before"],
        "n_other_right_after": every["right after"] - labelled["right after"],
        "n_edited": moved["all"],
        "margin_drop_sum": own["drop"],
        "other_margin_sum": every["moved"] - own["moved"],
        "edit_length_sum": moved["length"],
        "edit_ratio_sum": moved["ratio"],
        "off_manifold_sum": moved["quantile"],
    }
