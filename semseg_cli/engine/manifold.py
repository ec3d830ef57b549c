"""How far off the clean residuals an edit takes a patch, in standard terms.

Distances are Mahalanobis': plain lengths after whitening by the mean and the shrunk covariance of
clean residuals. Whitening costs d x d for each clean patch and each direction of an edit, once;
of an edited patch the distance follows from both by products of single numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import sum_along
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.typed import typed

N_IMAGES = 128
HELD_OUT = 4  # every such image is compared with, the others are measured
PER_IMAGE = 64  # patches of an image that is compared with, evenly spread


@dataclass(frozen=True)
class Manifold:
    """Clean residuals: their mean, what whitens them, and how far those held out lie.

    `squares_n` are squared distances in rising order.
    """

    mean_d: Float[Tensor, " d"]
    whitener_dd: Float[Tensor, "d d"]
    squares_n: Float[Tensor, " n"]

    @typed
    def whiten(self, vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Directions in units in which clean residuals vary alike in every direction."""
        return vectors @ self.whitener_dd.T

    @typed
    def quantiles(self, squares: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Which share of the clean patches that were held out lies nearer than these."""
        n = torch.searchsorted(self.squares_n, squares.contiguous())
        return n.to(squares) / len(self.squares_n)


@typed
def shrunk(covariance_dd: Float64[Tensor, "d d"], n: int) -> Float64[Tensor, "d d"]:
    """The covariance of n observations, shrunk towards equal variances.

    By the oracle approximating share (Chen, Wiesel, Eldar & Hero 2010, eq. 23).
    """
    d = len(covariance_dd)
    trace, square = covariance_dd.trace(), (covariance_dd**2).sum()
    part = (1 - 2 / d) * square + trace**2
    whole = (n + 1 - 2 / d) * (square - trace**2 / d)
    share = 1.0 if whole <= 0 else min(1.0, float(part / whole))
    equal_dd = torch.eye(d).to(covariance_dd) * trace / d
    return (1 - share) * covariance_dd + share * equal_dd


@torch.inference_mode()
def fit_manifold(
    pipeline: Pipeline, loader: Loader, progress: Progress = silent
) -> Manifold | None:
    """Mean and covariance of the residuals of most images; the others are compared with.

    None where there are fewer than two images, or all residuals are equal.
    """
    n_images, d, device = len(loader.dataset), pipeline.vit.d_model, pipeline.device
    if n_images < 2:
        return None
    step = max(1, -(-pipeline.vit.n_patches_per_img // PER_IMAGE))
    n_held = len(range(0, pipeline.vit.n_patches_per_img, step))
    held = torch.zeros(-(-n_images // HELD_OUT), n_held, d, dtype=torch.float64, device=device)
    sums = torch.zeros(d + 1, d, dtype=torch.float64, device=device)  # products, then the sum
    advance = progress("clean residuals", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        patches_btd = pipeline.patches(tokens_bnd).double()
        is_held_b = batch.positions_b % HELD_OUT == 0
        held[batch.positions_b[is_held_b] // HELD_OUT] = patches_btd[is_held_b][:, ::step]
        x_nd = patches_btd[~is_held_b].flatten(0, 1)
        sums[:-1] += x_nd.T @ x_nd
        sums[-1] += x_nd.sum(dim=0)
        advance(len(batch))
    all_sum(sums, held)
    n = (n_images - len(held)) * pipeline.vit.n_patches_per_img
    return make_manifold(sums[-1] / n, sums[:-1] / n, n, held.flatten(0, 1))


@typed
def make_manifold(
    mean_d: Float64[Tensor, " d"],
    products_dd: Float64[Tensor, "d d"],
    n: int,
    held_nd: Float64[Tensor, "m d"],
) -> Manifold | None:
    """From the mean of n residuals and of their outer products, and residuals to compare with.

    None where all residuals are equal.
    """
    covariance_dd = shrunk(products_dd - mean_d[:, None] * mean_d, n)
    if not float(covariance_dd.trace()) > 0:
        return None
    lower_dd = torch.linalg.cholesky(covariance_dd)
    whitener_dd = torch.linalg.solve_triangular(
        lower_dd, torch.eye(len(mean_d)).to(lower_dd), upper=False
    )
    squares_n = ((held_nd - mean_d) @ whitener_dd.T).square().sum(dim=1).sort().values
    return Manifold(mean_d.float(), whitener_dd.float(), squares_n.float())


@dataclass(frozen=True)
class Course:
    """How the squared distances of a batch grow along the directions of each row of an edit.

    A patch that moves by `lengths` along directions is then |w|^2 + 2 lengths . slopes +
    lengths' curves lengths far, squared.
    """

    manifold: Manifold
    squares_bt: Float[Tensor, "b t"]
    slopes_btkg: Float[Tensor, "b t k g"]
    curves_akgg: Float[Tensor, "a k g g"]  # a: all images alike, or each

    @typed
    def quantiles(
        self,
        images_p: Tensor,
        rows_pr: Tensor,
        lengths_ptg: Float[Tensor, "p t g"],
    ) -> Float[Tensor, "p t"]:
        """Where among clean patches those of some images are after an edit.

        `rows_pr` has one row per image, or one per patch.
        """
        images, patches = images_p[:, None], torch.arange(lengths_ptg.shape[1]).to(images_p)
        slopes_ptg = self.slopes_btkg[images, patches, rows_pr]
        curves_prgg = self.curves_akgg[images % len(self.curves_akgg), rows_pr]
        bent_ptg = sum_along(lengths_ptg, curves_prgg)
        grown_pt = (lengths_ptg * (2 * slopes_ptg + bent_ptg)).sum(dim=2)
        return self.manifold.quantiles(self.squares_bt[images_p] + grown_pt)


@dataclass(frozen=True)
class Ground:
    """The clean patches of a batch, whitened: their lengths are their distances."""

    manifold: Manifold
    white_btd: Float[Tensor, "b t d"]

    @classmethod
    @typed
    def of(cls, manifold: Manifold, patches_btd: Float[Tensor, "b t d"]) -> "Ground":
        """Where these patches lie."""
        return cls(manifold, manifold.whiten(patches_btd - manifold.mean_d))

    @typed
    def course(self, along_akgd: Float[Tensor, "a k g d"]) -> Course:
        """Their course along the directions of an edit; `a` is 1 where all images have the same.

        Rows that are views of one another (one random vector for all) are whitened once.
        """
        is_one = along_akgd.stride(1) == 0
        rows = along_akgd[:, :1] if is_one else along_akgd
        white_akgd = self.manifold.whiten(rows).expand(along_akgd.shape)
        white_bkgd = white_akgd.expand(len(self.white_btd), -1, -1, -1)
        slopes_btkg = torch.einsum("btd,bkgd->btkg", self.white_btd, white_bkgd)
        squares_bt = self.white_btd.square().sum(dim=2)
        return Course(self.manifold, squares_bt, slopes_btkg, white_akgd @ white_akgd.mT)
