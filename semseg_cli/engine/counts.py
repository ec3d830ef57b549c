"""The accumulators. Integers only: they add up in any order, and ratios are taken at the end."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from semseg_cli.ranks.collectives import all_sum, gather_counts
from semseg_cli.runs.report import ClassResults
from semseg_cli.typed import typed

N_ADE20K_CLASSES = 150


@typed
def flow_matrix(
    orig_preds: Int[Tensor, "n_imgs patches"],
    mod_preds: Int[Tensor, "n_imgs patches"],
    n_classes: int,
) -> Int64[Tensor, "n_imgs c c"]:
    """Patches per image that went from class i + 1 to class j + 1; one bincount."""
    n_images = len(orig_preds)
    images = torch.arange(n_images, device=orig_preds.device)[:, None]
    cells = (images * n_classes + orig_preds - 1) * n_classes + mod_preds - 1
    flat = torch.bincount(cells.reshape(-1), minlength=n_images * n_classes**2)
    return flat.view(n_images, n_classes, n_classes)


class Counts:
    """What one edit changed, per image and row; a row counts one class.

    `per_image` [n_images, rows, 4] holds original, changed, other and other-changed patches,
    `joined` [n_images, rows] the other patches that became the row's class, `matrix`
    [rows, classes] where the changed patches of the row's class went. All add up all draws of the
    edit; `per_draw` [draws, rows, 4] has each by itself, summed over images, `of_absent` that part
    of it (in the class protocol) that comes from images without the row's class. Where a row is run
    on a sample of these, each of them stands for `factor_k` images: what is called weighted says so
    much of all images. On one of several ranks, `per_image` and `joined` have its own images only,
    the first at position `begin`, until `gather_images`.
    """

    def __init__(
        self,
        class_ids: Sequence[int],
        n_images: int,
        n_classes: int,
        n_draws: int = 1,
        begin: int = 0,
        factor_k: Float64[Tensor, " k"] | None = None,
    ) -> None:
        self.per_draw = torch.zeros(n_draws, len(class_ids), 4, dtype=torch.int64)
        self.of_absent = torch.zeros_like(self.per_draw)
        self.class_ids = torch.tensor(class_ids, dtype=torch.int64)
        self.per_image = torch.zeros(n_images, len(class_ids), 4, dtype=torch.int64)
        self.joined = torch.zeros(n_images, len(class_ids), dtype=torch.int64)
        self.matrix = torch.zeros(len(class_ids), n_classes, dtype=torch.int64)
        self.n_classes = n_classes
        self.begin = begin
        self.factor_k = factor_k

    @property
    def by_image(self) -> tuple[Tensor, ...]:
        """What there is one row of per image."""
        return (self.per_image, self.joined)

    @property
    def totals(self) -> tuple[Tensor, ...]:
        """What is summed over images."""
        return (self.per_draw, self.of_absent, self.matrix)

    @property
    def weight_bk(self) -> Float64[Tensor, "n_images k"] | None:
        """How many images each one stands for, 0 where the row was not run; None: all were run."""
        if self.factor_k is None:
            return None
        n_own_bk, n_other_bk = self.per_image[..., 0], self.per_image[..., 2]
        return torch.where(n_own_bk > 0, 1.0, (n_other_bk > 0) * self.factor_k)

    @property
    def weighted_bk4(self) -> Int64[Tensor, "n_images k 4"] | Float64[Tensor, "n_images k 4"]:
        """The counts per image times what each image stands for."""
        weight_bk = self.weight_bk
        return self.per_image if weight_bk is None else self.per_image * weight_bk[..., None]

    @property
    def weighted_joined(self) -> Int64[Tensor, "n_images k"] | Float64[Tensor, "n_images k"]:
        """The same of `joined`."""
        weight_bk = self.weight_bk
        return self.joined if weight_bk is None else self.joined * weight_bk

    @property
    def weighted_rk4(self) -> Int64[Tensor, "draws k 4"]:
        """The counts per draw over all images that there are, to the nearest patch."""
        if self.factor_k is None:
            return self.per_draw
        rest_rk4 = self.of_absent * (self.factor_k[:, None] - 1)
        return self.per_draw + rest_rk4.round().long()

    @typed
    def add_rows(
        self,
        images_p: Int64[Tensor, " p"],
        rows_p: Int64[Tensor, " p"],
        orig_pt: Int[Tensor, "p t"],
        mod_pt: Int[Tensor, "p t"],
        draw: int = 0,
    ) -> None:
        """Counts edited images, each for its own row only (the class protocol)."""
        own_p1 = self.class_ids.to(orig_pt.device)[rows_p][:, None]
        is_own = orig_pt == own_p1
        is_changed = orig_pt != mod_pt
        n_own = is_own.sum(dim=1)
        columns = (
            n_own,
            (is_own & is_changed).sum(dim=1),
            orig_pt.shape[1] - n_own,
            (~is_own & is_changed).sum(dim=1),
        )
        found, rows = torch.stack(columns, dim=1).cpu(), rows_p.cpu()
        cells = (images_p.cpu() - self.begin, rows)
        self.per_image.index_put_(cells, found, accumulate=True)
        n_joined = (~is_own & (mod_pt == own_p1)).sum(dim=1).cpu()
        self.joined.index_put_(cells, n_joined, accumulate=True)
        self.per_draw[draw].index_put_((rows,), found, accumulate=True)
        absent = found * (found[:, :1] == 0)
        self.of_absent[draw].index_put_((rows,), absent, accumulate=True)
        went = (rows_p[:, None] * self.n_classes + mod_pt - 1)[is_own & is_changed]
        flow = torch.bincount(went, minlength=self.matrix.numel())
        self.matrix += flow.view_as(self.matrix).cpu()

    @typed
    def add_pair(
        self,
        images_b: Int64[Tensor, " b"],
        orig_bt: Int[Tensor, "b t"],
        mod_bt: Int[Tensor, "b t"],
        draw: int = 0,
    ) -> None:
        """Counts every row from one pair of predictions (one edit of the whole image)."""
        flow = flow_matrix(orig_bt, mod_bt, self.n_classes).cpu()
        n_orig, n_same = flow.sum(dim=2), flow.diagonal(dim1=1, dim2=2)
        n_changed = n_orig - n_same
        n_other_changed = n_changed.sum(dim=1, keepdim=True) - n_changed
        columns = (n_orig, n_changed, orig_bt.shape[1] - n_orig, n_other_changed)
        own = self.class_ids - 1
        found = torch.stack(columns, dim=2)[:, own]
        self.per_image[images_b.cpu() - self.begin] += found
        self.per_draw[draw] += found.sum(dim=0)
        self.joined[images_b.cpu() - self.begin] += (flow.sum(dim=1) - n_same)[:, own]
        flow.diagonal(dim1=1, dim2=2).zero_()
        self.matrix += flow.sum(dim=0)[own]

    def add_ranks(self) -> None:
        """Adds the totals of the other ranks' images; `per_image` stays this rank's own."""
        all_sum(*self.totals)

    def gather_images(self, n_images: int) -> None:
        """Lets `per_image` and `joined` have all `n_images` on the lead; reports need it."""
        own = torch.cat([self.per_image, self.joined[..., None]], dim=2)
        found = gather_counts(own, n_images)
        self.per_image, self.joined = found[..., :4].contiguous(), found[..., 4].contiguous()

    def to_class_results(self, class_names: Sequence[str]) -> list[ClassResults]:
        """One entry per row, in the order of the rows."""
        return [
            ClassResults(
                class_id=class_id,
                class_name=class_names[class_id - 1],
                n_orig_patches=n_orig,
                n_changed_patches=n_changed,
                n_other_patches=n_other,
                n_other_changed=n_other_changed,
                change_distribution={to + 1: n for to, n in enumerate(flow) if n},
            )
            for class_id, (n_orig, n_changed, n_other, n_other_changed), flow in zip(
                self.class_ids.tolist(),
                self.weighted_rk4.sum(dim=0).tolist(),
                self.matrix.tolist(),
                strict=True,
            )
        ]


@typed
def compute_class_results(
    orig_preds: Int[Tensor, "n_imgs patches"],
    mod_preds: Int[Tensor, "n_imgs patches"],
    *,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> list[ClassResults]:
    """One entry per class 1..n_classes from ONE pair of predictions.

    A patch predicted as 0 (null) is an "other" one of every class; null has no entry of its own,
    but 0 may be a key of `change_distribution`. `n_classes` is the number of `class_names` where
    those are given, else ADE20K's 150.

    Raises:
        ValueError: a prediction is no class id, or the number of names is not `n_classes`.
    """
    if n_classes is None:
        n_classes = N_ADE20K_CLASSES if class_names is None else len(class_names)
    if class_names is None:
        class_names = [str(class_id) for class_id in range(1, n_classes + 1)]
    if len(class_names) != n_classes:
        raise ValueError(f"there are {len(class_names)} class names: expected {n_classes}")
    for preds in (orig_preds, mod_preds):
        if preds.numel() and not 0 <= int(preds.min()) <= int(preds.max()) <= n_classes:
            raise ValueError(
                f"predictions lie in {int(preds.min())}..{int(preds.max())}: "
                f"expected ids from 0 (null) to {n_classes}"
            )
    # Counts knows classes only: null is its first one, so every id moves up by one and back.
    counts = Counts(range(2, n_classes + 2), n_images=1, n_classes=n_classes + 1)
    orig, mod = (preds.reshape(1, -1).long() + 1 for preds in (orig_preds, mod_preds))
    counts.add_pair(torch.zeros(1, dtype=torch.int64), orig, mod)
    return [
        replace(
            found,
            class_id=found.class_id - 1,
            change_distribution={to - 1: n for to, n in found.change_distribution.items()},
        )
        for found in counts.to_class_results(["null", *class_names])
    ]
