"""Every latent ranked by what its edit would change, from gradients: one backward pass per class.

To first order an edit that adds (v - f) * d to each patch lowers the margins of a class's patches,
in sum, by -sum over patches of (v - f) * (d . g), where g is the gradient of that sum with respect
to the residual. One g serves all latents and all scales.

g is taken half-way to the image's other patches: where a class is predicted with certainty, its
margin is flat (final norms and large activations saturate), and says nothing of what an edit that
takes the class away meets on its way (as integrated gradients argue, Sundararajan et al. 2017).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from semseg_cli.data.dataset import even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.models.head import argmax_logits
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.typed import typed

N_IMAGES = 24  # with each class, at most
STEP = 0.5  # where gradients are taken: on the way from the class's patches to the others
AT_ONCE = 2**15  # active latents whose directions are gathered, and latents that are looked at


@typed
def gradient_images(
    occurs: Bool[Tensor, "n_images labels"], n_most: int = N_IMAGES
) -> Bool[Tensor, "n_images labels"]:
    """Which images give the gradient of which label's margin: evenly spread ones that have it."""
    chosen = torch.zeros_like(occurs)
    for label in range(1, occurs.shape[1]):
        having = torch.nonzero(occurs[:, label]).flatten()
        chosen[having[even_subset(len(having), n_most)], label] = True
    return chosen


@dataclass(frozen=True)
class Falls:
    """By how much edits lower the margins of each class's patches, to first order and in sum.

    `n` [C] patches predicted as each class, `margins` [C] the sum of theirs, `at_max` [C, S] the
    fall per unit of a latent's maximum that is written to every patch, `own` [C, S] the fall by
    taking out what is there.
    """

    n: Float64[Tensor, " c"]
    margins: Float64[Tensor, " c"]
    at_max: Float64[Tensor, "c s"]
    own: Float64[Tensor, "c s"]

    def relative(self, scale: float) -> Float64[Tensor, "c s"]:
        """By which share of their mean margin the patches of each class fall when a latent is set
        on every patch; negative where they rise."""
        return (scale * self.at_max + self.own) / self.margins.clamp(min=1e-9)[:, None]

    def effects(self, scale: float) -> Float64[Tensor, "c s"]:
        """The fall of each class minus that of all others, which count by their patches."""
        falls_cs = self.relative(scale)
        in_all_cs = falls_cs * self.n[:, None]
        n_others_c = (self.n.sum() - self.n).clamp(min=1)
        return falls_cs - (in_all_cs.sum(dim=0) - in_all_cs) / n_others_c[:, None]


def first_order_falls(
    pipeline: Pipeline,
    loader: Loader,
    is_wanted: Bool[Tensor, "n_images labels"],
    progress: Progress = silent,
) -> Falls:
    """The falls of all classes and latents, each class's over the images that are wanted for it."""
    n_classes, sae, device = len(loader.dataset.class_names), pipeline.sae, pipeline.device
    sums_cd = torch.zeros(n_classes, sae.d_model, dtype=torch.float64, device=device)
    own_cs = torch.zeros(n_classes, sae.d_sae, dtype=torch.float64, device=device)
    n_c, margins_c = torch.zeros(2, n_classes, dtype=torch.float64, device=device)
    advance = progress("first-order effects", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        wanted_bc = is_wanted[batch.positions_b].to(device)
        for part in torch.arange(len(batch)).split(_images_per_pass(pipeline)):
            tokens_pnd = tokens_bnd[part]
            active = active_latents(sae, pipeline.patches(tokens_pnd))
            for found in class_gradients(pipeline, tokens_pnd, wanted_bc[part]):
                c = found.class_id - 1
                n_c[c] += found.n
                margins_c[c] += found.margin
                along = active.of(found.images_p)
                grad_nd = along.scaled(found.grad_nd)
                sums_cd[c] += grad_nd.double().sum(dim=0)
                own_cs[c] += along.read_along(sae, grad_nd)
        advance(len(batch))
    all_sum(n_c, margins_c, sums_cd, own_cs)
    return Falls(n_c.cpu(), margins_c.cpu(), _at_max(pipeline, sums_cd).cpu(), own_cs.cpu())


def _images_per_pass(pipeline: Pipeline) -> int:
    """What every block has made stays until the way back."""
    n_blocks = max(1, pipeline.vit.n_layers - pipeline.layer)
    return max(1, pipeline.rows_per_pass() // n_blocks)


def _at_max(pipeline: Pipeline, sums_cd: Tensor) -> Float64[Tensor, "c s"]:
    sae, maxima_s = pipeline.sae, pipeline.latent_stats.top_values.to(pipeline.device)
    parts = [
        -sums_cd @ sae.directions(latents).double().T * maxima_s[latents].double()
        for latents in torch.arange(sae.d_sae, device=pipeline.device).split(AT_ONCE)
    ]
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Gradient:
    """Of the summed margin of a class's `n` patches, `margin`, at every patch of the images
    `images_p` that have some, image by image."""

    class_id: int
    images_p: Int64[Tensor, " p"]
    n: int
    margin: float
    grad_nd: Float[Tensor, "n d"]


def class_gradients(
    pipeline: Pipeline, tokens_pnd: Float[Tensor, "p n e"], wanted_pl: Bool[Tensor, "p labels"]
) -> Iterator[Gradient]:
    """One gradient per class that is predicted in images where it is wanted."""
    with torch.inference_mode(False):
        tokens_pnd = tokens_pnd.clone()
        logits = _logits(pipeline, tokens_pnd)
        classes_pt = argmax_logits(logits)
        margins_pt = _margins(logits, classes_pt)
        is_wanted_pt = wanted_pl.gather(1, classes_pt)
        for class_id in classes_pt[is_wanted_pt].unique().tolist():
            is_own_pt = is_wanted_pt & (classes_pt == class_id)
            images_p = torch.nonzero(is_own_pt.any(dim=1)).flatten()
            own_pt = is_own_pt[images_p]
            shifted_pnd = towards_others(pipeline, tokens_pnd[images_p], own_pt).requires_grad_()
            with torch.enable_grad():
                of_class = torch.full_like(classes_pt[images_p], class_id)
                moved_pt = _margins(_logits(pipeline, shifted_pnd), of_class)
                (grad_pnd,) = torch.autograd.grad(moved_pt[own_pt].sum(), shifted_pnd)
            yield Gradient(
                class_id=class_id,
                images_p=images_p,
                n=int(is_own_pt.sum()),
                margin=float(margins_pt[is_own_pt].double().sum()),
                grad_nd=pipeline.patches(grad_pnd).flatten(0, 1),
            )


def _logits(pipeline: Pipeline, tokens_pnd: Tensor) -> Tensor:
    return pipeline.class_head(pipeline.features(tokens_pnd).float())


@typed
def towards_others(
    pipeline: Pipeline, tokens_pnd: Float[Tensor, "p n e"], is_own_pt: Bool[Tensor, "p t"]
) -> Float[Tensor, "p n e"]:
    """The tokens, a class's patches moved by `STEP` of the way from their mean in the image to the
    mean of its other patches; images without either stay as they are."""
    patches_ptd, own_pt1 = pipeline.patches(tokens_pnd), is_own_pt[..., None].float()
    n_own, n_other = own_pt1.sum(dim=1), (1 - own_pt1).sum(dim=1)
    own_pd = (patches_ptd * own_pt1).sum(dim=1) / n_own.clamp(min=1)
    other_pd = (patches_ptd * (1 - own_pt1)).sum(dim=1) / n_other.clamp(min=1)
    way_pd = (other_pd - own_pd) * ((n_own > 0) & (n_other > 0))
    moved = tokens_pnd.clone()
    pipeline.vit.patches(moved).add_((STEP * own_pt1 * way_pd[:, None]).to(moved))
    return moved


def _margins(logits: Tensor, classes_pt: Tensor) -> Tensor:
    """As `class_margins` has them, with nothing overwritten on the way."""
    cells = (classes_pt - 1)[..., None]
    known = logits[..., 1:]
    if known.shape[-1] < 2:
        return 0.0 * known[..., 0]
    return known.gather(-1, cells)[..., 0] - known.scatter(-1, cells, -torch.inf).amax(dim=-1)


@dataclass(frozen=True)
class Active:
    """The active latents of some images' patches: which patch, which latent, how much; and by how
    much each patch's own scale stretches what a latent writes (None: 1)."""

    n_patches: int  # of an image
    rows_a: Int64[Tensor, " a"]
    latents_a: Int64[Tensor, " a"]
    values_a: Float[Tensor, " a"]
    scale_n: Float[Tensor, " n"] | None

    def of(self, images_p: Int64[Tensor, " p"]) -> "Active":
        """Those of some images, in their order."""
        last = torch.cat([images_p, self.rows_a // self.n_patches]).max()
        places = torch.full((int(last) + 1,), -1, device=self.rows_a.device)
        places[images_p] = torch.arange(len(images_p), device=self.rows_a.device)
        place_a = places[self.rows_a // self.n_patches]
        kept_a = place_a >= 0
        rows_a = place_a[kept_a] * self.n_patches + self.rows_a[kept_a] % self.n_patches
        scale_n = None
        if self.scale_n is not None:
            scale_n = self.scale_n.view(-1, self.n_patches)[images_p].flatten()
        latents_a, values_a = self.latents_a[kept_a], self.values_a[kept_a]
        return Active(self.n_patches, rows_a, latents_a, values_a, scale_n)

    def scaled(self, grad_nd: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """A gradient by what a unit of a latent's direction adds to each patch."""
        return grad_nd if self.scale_n is None else grad_nd * self.scale_n[:, None]

    @typed
    def read_along(
        self, sae: SparseAutoencoder, grad_nd: Float[Tensor, "n d"]
    ) -> Float64[Tensor, " s"]:
        """Per latent the sum over patches of f * (d . g)."""
        total_s = torch.zeros(sae.d_sae, dtype=torch.float64, device=grad_nd.device)
        parts = (each.split(AT_ONCE) for each in (self.rows_a, self.latents_a, self.values_a))
        for rows_a, latents_a, values_a in zip(*parts, strict=True):
            along_a = (grad_nd[rows_a] * sae.directions(latents_a)).sum(dim=1)
            total_s.index_add_(0, latents_a, (values_a * along_a).double())
        return total_s


@torch.inference_mode()
def active_latents(sae: SparseAutoencoder, patches_ptd: Float[Tensor, "p t d"]) -> Active:
    """The latents that are not zero on some images' raw residuals."""
    found, begin, patches_nd = [], 0, patches_ptd.flatten(0, 1)
    for part_nd in patches_nd.split(sae.chunk_rows):
        f_ns = sae.encode(sae.scale(part_nd))
        rows, latents = torch.nonzero(f_ns, as_tuple=True)
        found.append((rows + begin, latents, f_ns[rows, latents]))
        begin += len(part_nd)
    rows_a, latents_a, values_a = map(torch.cat, zip(*found, strict=True))
    scale_n = sae.token_scale(patches_nd)
    return Active(patches_ptd.shape[1], rows_a, latents_a, values_a, scale_n)
