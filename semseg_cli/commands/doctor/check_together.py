"""Checks that try the parts together on a few images."""

from dataclasses import replace

import torch

from semseg_cli.commands.doctor.findings import Finding
from semseg_cli.commands.doctor.patient import EVALUATION, LOOKUP, Patient, bad, doubtful, good
from semseg_cli.data.dataset import even_subset
from semseg_cli.engine.segmentation import segmentation
from semseg_cli.engine.splice import by_sae, splice
from semseg_cli.experiment.head_fit import confusion, doubt, kappa
from semseg_cli.experiment.place import is_site_open
from semseg_cli.experiment.sae_fit import (
    GOOD,
    advise,
    measure_fit,
    try_others,
)
from semseg_cli.models.sae import TopK
from semseg_cli.models.sae.centring import decide_centring
from semseg_cli.models.sae.model import CLAMP
from semseg_cli.models.sae.norm_choice import choose_site
from semseg_cli.models.vit.sites import NORM_OUT

NORM_RANGE = (0.5, 2.0)  # of the mean length of the SAE's input, per square root of its width
MOST_OFFSET = 0.5  # of the input's mean, as a share of the input's length
L0_FACTOR = 2.0  # between the L0 on the probe and the claimed one
DENSE = 0.25  # share of all latents active per patch from which nothing is sparse
KEPT = 0.8  # of all predictions, with the reconstruction in place of the residual


@torch.inference_mode()
def residuals(patient: Patient) -> Finding:
    """Does the ViT give numbers at the layer, and are they below the clamp?"""
    vit, place, parts = patient.vit, patient.place, []
    for batch in patient.probe(LOOKUP):
        tokens = vit.prefix(batch.images_bchw, place.layer, place.site)
        parts.append(vit.patches(tokens).flatten(0, 1).float())
        if len(parts) == 1:
            patient.images_bchw = batch.images_bchw
    patient.x_nd = x_nd = torch.cat(parts)
    clamped = float((x_nd.abs() > CLAMP).double().mean())
    said = f"{len(x_nd)} patches, {clamped:.2%} of the values clamped"
    if clamped:
        return doubtful(
            said,
            f"Values beyond {CLAMP:g} are clamped before the SAE sees them: check --vit-ckpt and "
            "--dtype.",
            clamped=clamped,
        )
    return good(said, clamped=clamped)


@torch.inference_mode()
def site(patient: Patient) -> Finding:
    """Before or after the final norm? Both are tried where the file leaves it open."""
    vit, place = patient.vit, patient.place
    if not is_site_open(patient.setup, patient.sae, vit, place.layer):
        return good(place.site)
    norm = vit.family.final_norm(vit.model)

    def normed(x_nd: torch.Tensor) -> torch.Tensor:
        return norm(x_nd.to(vit.dtype)).float()

    patient.site, sentence = choose_site(patient.sae, patient.given_stats, patient.x_nd, normed)
    if patient.site == NORM_OUT:
        patient.x_nd = normed(patient.x_nd)
    return doubtful(f"measured: {patient.site}", sentence)


def centring(patient: Patient) -> Finding:
    """Is b_dec subtracted before encoding? Both rules are tried where the file is silent."""
    patient.sae, sentence = decide_centring(patient.sae, patient.given_stats, patient.x_nd)
    taken = "subtracted" if patient.sae.centres_input else "not subtracted"
    return doubtful(f"measured: {taken}", sentence) if sentence else good(taken)


def scaled_input(patient: Patient) -> Finding:
    """Do the given mean and norm make the SAE's input as long as it was in training?"""
    sae, given = patient.sae, patient.given_stats
    if not {"act_mean", "act_norm"} & given.keys():
        return good("mean and norm are to be computed")
    if not sae.act_mean.any() and float(sae.act_norm) == 1.0:
        return good("not scaled")
    z_nd = sae.scale(patient.x_nd)
    length = float(z_nd.norm(dim=1).mean()) / sae.d_model**0.5
    offset = float(z_nd.mean(dim=0).norm()) / sae.d_model**0.5
    said = f"length {length:.3g} (expected 1), offset {offset:.3g} (0)"
    values = {"length": length, "offset": offset}
    low, high = NORM_RANGE
    if low <= length <= high and offset <= MOST_OFFSET * max(length, 1.0):
        return good(said, **values)
    return doubtful(
        said,
        "The given mean and norm do not fit the residuals of this ViT at this layer: check "
        "--stats, --act-mean, --act-norm and --vit-layer, or take those of these images: "
        "--act-mean measured --act-norm measured.",
        **values,
    )


def reconstruction(patient: Patient) -> Finding:
    """Does the SAE reconstruct what it reads, or would another layer or scaling fit better?"""
    fit = measure_fit(patient.sae, patient.x_nd)
    used, best = try_others(
        patient.vit, patient.sae, patient.images_bchw, patient.place, patient.given_stats
    )
    said = (
        f"explained variance {fit.explained_variance:.3f} (about the mean), nMSE "
        f"{fit.normalised_mse:.3f} (about 0)"
    )
    values = {
        "explained_variance": fit.explained_variance,
        "normalised_mse": fit.normalised_mse,
        "best_layer": best.layer,
        "best_explained_variance": best.explained_variance,
    }
    if not fit.explained_variance > 0:
        advice = advise(used, best) or "The SAE reconstructs no better than a constant."
        return bad(said, advice, **values)
    if best != used or fit.explained_variance < GOOD:
        return doubtful(said, advise(used, best) or "Try more --probe-images.", **values)
    return good(said, **values)


def sparsity(patient: Patient) -> Finding:
    """Do as few latents fire as the file or the statistics claim?"""
    fit, sae = measure_fit(patient.sae, patient.x_nd), patient.sae
    said = f"L0 {fit.l0:.1f}, dead on the probe {fit.dead_share:.1%}"
    values = {"l0": fit.l0, "dead_share": fit.dead_share}
    claimed = sae.firing_frequency
    claimed = patient.given_stats.get("sparsity") if claimed is None else claimed
    expected = float(sae.nonlinearity.k) if isinstance(sae.nonlinearity, TopK) else None
    if claimed is not None:
        expected = float(claimed.double().sum())
        values |= {
            "claimed_l0": expected,
            "claimed_dead_share": float((claimed == 0).mean(dtype=torch.float64)),
        }
        said += f" (claimed {expected:.1f}, {values['claimed_dead_share']:.1%})"
    advice = "Check --vit-layer, --act-mean, --act-norm and --sae-ckpt."
    if fit.l0 == 0:
        return bad(said, f"No latent fires on any patch. {advice}", **values)
    if expected and not 1 / L0_FACTOR <= fit.l0 / expected <= L0_FACTOR:
        return doubtful(
            said,
            f"{fit.l0:.1f} latents fire per patch, {expected:.1f} are claimed: the SAE does not "
            f"see what it was trained on. {advice}",
            **values,
        )
    if expected is None and fit.l0 > DENSE * sae.d_sae:
        return doubtful(said, f"A quarter of all latents fires at once. {advice}", **values)
    return good(said, **values)


def head_accuracy(patient: Patient) -> Finding:
    """Does the head know the classes of clean patches?"""
    dataset, head = patient.datasets[EVALUATION], patient.fitting_head
    assert head is not None
    found = confusion(
        *(patient.vit, head, patient.probe(EVALUATION), patient.setup.label_threshold),
        n_classes=len(dataset.class_names),
    )
    if found is None:
        return bad("NaN or infinite", "The head overflows: check --seg-ckpt and --dtype.")
    return _judged(found, dataset.split)


def _judged(found: torch.Tensor, split: str) -> Finding:
    """Accuracy, agreement and mIoU over the classes that occur, of patches by label and
    prediction."""
    n, measured = int(found.sum()), segmentation(found)
    if not n:
        return doubtful(
            "no clean patch", "Try more --probe-images, or a smaller --label-threshold."
        )
    values = {"accuracy": measured.accuracy, "miou": measured.miou, "kappa": kappa(found)}
    said = (
        f"accuracy {measured.accuracy:.3f}, Cohen's kappa {values['kappa']:.3f}, mIoU "
        f"{measured.miou:.3f} (mean over the {len(measured.ious)} classes there) on {n} clean "
        f"patches of a few {split} images"
    )
    advice = doubt(found, f"a few {split} images")
    return doubtful(said, advice, **values) if advice else good(said, **values)


def spliced(patient: Patient) -> Finding:
    """Does the network predict the same from the SAE's reconstruction?"""
    session = patient.session()
    few = even_subset(len(session.dataset), patient.checkup.probe_images)
    loader = session.loader(session.dataset.subset(few))
    pipeline = replace(session.pipeline, cache=None)  # a check keeps nothing
    found = splice(pipeline, loader, {"SAE": by_sae(patient.sae)})["SAE"].predicted
    assert found is not None
    before, after = found.segmented
    names = loader.dataset.class_names
    lost = [names[class_id - 1] for class_id in found.lost]
    said = (
        f"{found.unchanged:.3f} of the predictions unchanged, mIoU {before.miou:.3f} to "
        f"{after.miou:.3f} (mean over {len(before.ious)} classes, all labelled patches of "
        f"{len(few)} {loader.dataset.split} images)"
    )
    values = {
        "unchanged": found.unchanged,
        "miou_before": before.miou,
        "miou_after": after.miou,
        "n_lost": len(lost),
    }
    if found.unchanged >= KEPT and not lost:
        return good(said, **values)
    what = f"It loses {', '.join(lost[:4])}: no latent can explain them. " if lost else ""
    return doubtful(
        said,
        f"With the SAE's reconstruction in place of the residual the network predicts otherwise. "
        f"{what}See `semseg-cli stats`; try an SAE with a larger L0 or more latents.",
        **values,
    )
