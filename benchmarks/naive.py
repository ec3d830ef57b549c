"""The obvious procedure: what the engine's counts mean, without any of its shortcuts.

The whole ViT for every clean and every edited prediction, all latents of all patches encoded and
decoded, the reconstruction error added back, loops over patches and classes, boolean masks. It
shares weights and random draws with the engine, and no code.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.engine.edits import Edit, Latents
from semseg_cli.engine.thresholds import SHARES
from semseg_cli.models.pipeline import Pipeline

CLAMP = 1e5


@torch.inference_mode()
def predict(pipeline: Pipeline, images_bchw: Tensor) -> Tensor:
    """The class of each patch [b, t], by the whole network."""
    vit, head = pipeline.vit, pipeline.class_head
    images_bchw = images_bchw.to(pipeline.device, next(vit.parameters()).dtype)
    tokens_bnd = vit.model(images_bchw).last_hidden_state
    logits_btc = tokens_bnd[:, vit.n_prefix_tokens :].float() @ head.weight.T + head.bias
    return logits_btc[..., 1:].argmax(dim=-1) + 1


@contextmanager
def hooked(pipeline: Pipeline, hook: Any) -> Iterator[None]:
    """The block before the autoencoder, followed by a hook on its output."""
    block = pipeline.vit.blocks[pipeline.layer - 1]
    handle = block.register_forward_hook(lambda _block, _args, tokens: hook(tokens))
    try:
        yield
    finally:
        handle.remove()


def encode(pipeline: Pipeline, x_btd: Tensor) -> tuple[Tensor, Tensor]:
    """The autoencoder's input and all its latents (ReLU)."""
    sae = pipeline.sae
    z_btd = (x_btd.float().clamp(-CLAMP, CLAMP) - sae.act_mean) / sae.act_norm
    return z_btd, torch.relu(z_btd @ sae.W_enc + sae.b_enc)


def decode(pipeline: Pipeline, f_bts: Tensor) -> Tensor:
    """The reconstruction, from all latents."""
    return f_bts @ pipeline.sae.W_dec + pipeline.sae.b_dec


# --- interventions ------------------------------------------------------------------------------


def set_latents(pipeline: Pipeline, edit: Edit, x_btd: Tensor, labels_bt: Tensor) -> Tensor:
    """Each patch with the latent of its label set, the reconstruction error added back."""
    sae, values = pipeline.sae, edit.values_kg[:, 0].tolist()
    settings = {
        class_id: (latents[0], values[row])
        for row, (class_id, latents) in enumerate(edit.latents_by_class.items())
    }
    z_btd, f_bts = encode(pipeline, x_btd)
    error_btd = z_btd - decode(pipeline, f_bts)
    for image, labels in enumerate(labels_bt.tolist()):
        for patch, label in enumerate(labels):
            if label in settings:
                latent, value = settings[label]
                f_bts[image, patch, latent] = value
    return (decode(pipeline, f_bts) + error_btd) * sae.act_norm + sae.act_mean


def add_vectors(edit: Edit, x_btd: Tensor, indices_b: Tensor) -> Tensor:
    """Every patch moved along its image's random direction."""
    units_bkd = edit.units(indices_b, x_btd.shape[-1])
    assert units_bkd is not None
    return x_btd + edit.scale * units_bkd


@torch.inference_mode()
def predict_edited(pipeline: Pipeline, edit: Edit, batch: Batch, labels_bt: Tensor) -> Tensor:
    """The whole network once more, with the edit in its middle."""
    n_prefix = pipeline.vit.n_prefix_tokens

    def hook(tokens_bnd: Tensor) -> Tensor:
        x_btd = tokens_bnd[:, n_prefix:]
        if isinstance(edit.reads, Latents):
            moved_btd = set_latents(pipeline, edit, x_btd, labels_bt)
        else:
            moved_btd = add_vectors(edit, x_btd, batch.indices_b)
        return torch.cat([tokens_bnd[:, :n_prefix], moved_btd.to(tokens_bnd.dtype)], dim=1)

    with hooked(pipeline, hook):
        return predict(pipeline, batch.images_bchw)


def changes_of(clean: Tensor, edited: Tensor, class_id: int) -> list[int]:
    """Original, changed, other and other-changed patches of a class."""
    is_own, is_changed = clean == class_id, clean != edited
    masks = (is_own, is_own & is_changed, ~is_own, ~is_own & is_changed)
    return [int(mask.sum()) for mask in masks]


def label_counts(
    pipeline: Pipeline, edits: Sequence[Edit], batches: Sequence[Batch], class_ids: Sequence[int]
) -> Tensor:
    """The label protocol: counts [edits, classes, 4] from two whole passes per edit and batch."""
    found = torch.zeros(len(edits), len(class_ids), 4, dtype=torch.int64)
    for i, edit in enumerate(edits):
        for batch in batches:
            clean = predict(pipeline, batch.images_bchw)
            edited = predict_edited(pipeline, edit, batch, batch.labels_bt)
            changes = [changes_of(clean, edited, class_id) for class_id in class_ids]
            found[i] += torch.tensor(changes)
    return found


def class_counts(
    pipeline: Pipeline, edit: Edit, batches: Sequence[Batch], class_ids: Sequence[int]
) -> Tensor:
    """The class protocol: counts [classes, 4] from two whole passes per class and batch."""
    found = torch.zeros(len(class_ids), 4, dtype=torch.int64)
    for i, class_id in enumerate(class_ids):
        for batch in batches:
            clean = predict(pipeline, batch.images_bchw)
            everywhere = torch.full_like(batch.labels_bt, class_id)
            edited = predict_edited(pipeline, edit, batch, everywhere)
            found[i] += torch.tensor(changes_of(clean, edited, class_id))
    return found


def peer_counts(
    pipeline: Pipeline, edit: Edit, batches: Sequence[Batch], class_ids: Sequence[int]
) -> Tensor:
    """One latent set in whole images: counts [classes, 4] from two whole passes per batch."""
    found = torch.zeros(len(class_ids), 4, dtype=torch.int64)
    for batch in batches:
        clean = predict(pipeline, batch.images_bchw)
        everywhere = torch.zeros_like(batch.labels_bt)  # the row of an edit for all classes
        edited = predict_edited(pipeline, edit, batch, everywhere)
        found += torch.tensor([changes_of(clean, edited, class_id) for class_id in class_ids])
    return found


# --- lookup -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lookup:
    """Counts [C + 1, thresholds, S] over clean patches, and the best latent of each class."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    best: Mapping[int, tuple[int, float]]  # class id -> latent, threshold


@torch.inference_mode()
def lookup(
    pipeline: Pipeline,
    batches: Sequence[Batch],
    class_ids: Sequence[int],
    label_threshold: float,
    max_freq: float,
) -> Lookup:
    """Every class by every latent and threshold, by comparing all activations."""
    sae, device = pipeline.sae, pipeline.device
    maximum_s = pipeline.latent_stats.top_values.to(device)
    shape = (pipeline.class_head.n_classes + 1, len(SHARES), sae.d_sae)
    tp, fp, fn = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3))
    for batch in batches:
        shares_ns = activations(pipeline, batch) / maximum_s
        labels_n = batch.labels_bt.flatten().to(device)
        is_clean_n = (batch.share_bt >= label_threshold).flatten().to(device)
        for class_id in class_ids:
            is_own = (is_clean_n & (labels_n == class_id))[:, None]
            is_other = (is_clean_n & (labels_n != class_id))[:, None]
            for k, threshold in enumerate(SHARES):
                is_active = shares_ns > threshold
                tp[class_id, k] += (is_active & is_own).sum(dim=0)
                fp[class_id, k] += (is_active & is_other).sum(dim=0)
                fn[class_id, k] += (~is_active & is_own).sum(dim=0)
    sparsity = pipeline.latent_stats.sparsity
    is_candidate = ((sparsity > 0) & (sparsity < max_freq)).numpy()
    best = {c: best_latent(tp[c], fp[c], fn[c], is_candidate) for c in class_ids}
    return Lookup(tp, fp, fn, best)


def activations(pipeline: Pipeline, batch: Batch) -> Tensor:
    """All latents of all patches [b * t, s], from a whole pass."""
    seen: list[Tensor] = []
    with hooked(pipeline, seen.append):
        predict(pipeline, batch.images_bchw)
    patches_btd = seen[0][:, pipeline.vit.n_prefix_tokens :]
    return encode(pipeline, patches_btd)[1].flatten(0, 1)


def best_latent(
    tp_ks: Tensor, fp_ks: Tensor, fn_ks: Tensor, is_candidate: np.ndarray
) -> tuple[int, float]:
    """The candidate with the best F1; the smaller latent, then the smaller threshold, if equal."""
    tp, fp, fn = (counts.cpu().numpy() for counts in (tp_ks, fp_ks, fn_ks))
    f1_ks = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    f1_sk = np.where(is_candidate, f1_ks, -1.0).T
    latent, k = np.unravel_index(f1_sk.argmax(), f1_sk.shape)
    return int(latent), SHARES[int(k)]


# --- class results ------------------------------------------------------------------------------


def class_results(orig: Tensor, mod: Tensor, n_classes: int) -> Tensor:
    """How many patches went from class to class [C, C], one pass over all of them for each pair."""
    flow = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    for before in range(1, n_classes + 1):
        for after in range(1, n_classes + 1):
            flow[before - 1, after - 1] = int(((orig == before) & (mod == after)).sum())
    return flow
