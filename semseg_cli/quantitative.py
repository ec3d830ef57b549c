"""The reference API, under the names that users of the reference module know."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int

from semseg_cli.data.loader import Loader
from semseg_cli.data.patch_labels import get_patch_i, get_patch_mask
from semseg_cli.engine.counts import compute_class_results
from semseg_cli.engine.detections import count_detections, rank_latents
from semseg_cli.engine.edits import map_range, unscaled
from semseg_cli.engine.thresholds import ABSOLUTE, Thresholds
from semseg_cli.experiment.parts import (
    assemble,
    completed,
    find_device,
    load_backbone,
    load_stats,
)
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.files import make_folder
from semseg_cli.models.head import SegmentationHead, argmax_logits
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.vit import register_hook
from semseg_cli.runs.lookup_csv import Reused, chosen_latents, lookup_from_path
from semseg_cli.runs.report import ClassResults, Report, save
from semseg_cli.settings.base import narrow
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.entries import build, entries, flatten
from semseg_cli.settings.inputs import Imgs
from semseg_cli.settings.methods import FORMER, AutoFeat, Method
from semseg_cli.settings.reference import Quantitative
from semseg_cli.settings.toml_files import layered
from semseg_cli.typed import typed

__all__ = [
    "ClassResults",
    "Quantitative",
    "Report",
    "SparseAutoencoder",
    "argmax_logits",
    "compute_class_results",
    "eval_auto_feat",
    "eval_rand_feat",
    "eval_rand_vec",
    "get_latent_lookup",
    "get_patch_i",
    "get_patch_mask",
    "main",
    "make_dataloader",
    "map_range",
    "register_hook",
    "save",
    "unscaled",
]


# The reference has no matched controls.
REFERENCE_METHODS: dict[type[Method], dict[str, Any]] = {
    RandVec: {"match": "none"},
    RandFeat: {"match": "none"},
    AutoFeat: {},
}


def filled(cfg: Quantitative) -> Quantitative:
    """The settings, with the demo world's where they name no input of their own."""
    mine, defaults = flatten(cfg), flatten(Quantitative())
    values = {
        **layered(None, None, mine),
        **{k: v for k, v in mine.items() if defaults.get(k) != v},
    }
    names = {entry.key: entry.name for entry in entries(Quantitative)}
    return build(Quantitative, {names[k]: v for k, v in values.items() if k in names})


def make_dataloader(cfg: Quantitative) -> Loader:
    """The images that `cfg.imgs` names, as `eval_*` and `get_latent_lookup` take them."""
    session = open_session(filled(cfg))
    return session.loader(session.dataset)


@typed
def get_latent_lookup(
    cfg: Quantitative,
    sae: SparseAutoencoder,
    dataloader: Loader,
    thresholds: tuple[float, ...] = ABSOLUTE,
) -> Int[torch.Tensor, " classes_and_null"]:
    """The best latent of each class by F1 over the dataloader's images.

    Entry c belongs to class c (151 entries for ADE20K; entry 0 is unused); -1 says that a class
    has no latent. Statistics that `cfg` does not name are computed on the same images. A latent
    detects a patch where its activation exceeds a threshold; `cfg.threshold`, shares of its
    maximum, is what `eval_*` choose by.
    """
    cfg = filled(cfg)
    pipeline = assemble(cfg, load_backbone(cfg, find_device(cfg.device)), sae)
    pipeline = completed(cfg, pipeline, load_stats(cfg, sae), lambda: dataloader)
    levels = Thresholds.absolute(thresholds)
    detections = count_detections(pipeline, dataloader, cfg.label_threshold, levels)
    names = dataloader.dataset.class_names
    rows = rank_latents(detections, pipeline.latent_stats, names, cfg.max_freq, top_k=1)
    lookup = torch.full((len(names) + 1,), -1, dtype=torch.int64)
    for class_id, (best,) in chosen_latents(rows).items():
        lookup[class_id] = best.latent
    return lookup


def _evaluate(
    cfg: Quantitative,
    method: type[Method],
    sae: SparseAutoencoder,
    clf: SegmentationHead,
    dataloader: Loader,
) -> Report:
    dataset = dataloader.dataset
    cfg = filled(cfg)
    setup = narrow(cfg, Quantitative, imgs=Imgs(root=dataset.root, split=dataset.split))
    pipeline = assemble(setup, load_backbone(setup, find_device(setup.device)), sae, clf)
    session = Session(setup, pipeline, load_stats(setup, sae))
    session.dataset = dataset
    chosen = _settings(cfg, method)
    return _as_reference(run(session, [chosen], _reused(cfg))[0].report)


def _as_reference(report: Report) -> Report:
    """The report with its method called as the reference calls it."""
    names = {now: former for former, now in FORMER.items()}
    return replace(report, method=names[report.method])


def _settings(cfg: Quantitative, method: type[Method]) -> Method:
    return narrow(cfg, method, scale=(cfg.scale,), **REFERENCE_METHODS[method])


def _reused(cfg: Quantitative) -> dict[str, Reused]:
    return {cfg.lookup: Reused(lookup_from_path(cfg.lookup))} if cfg.lookup else {}


@typed
def eval_rand_vec(
    cfg: Quantitative, sae: SparseAutoencoder, clf: SegmentationHead, dataloader: Loader
) -> Report:
    """`scale` times a random unit vector added to every patch (method `random-vector`)."""
    return _evaluate(cfg, RandVec, sae, clf, dataloader)


@typed
def eval_rand_feat(
    cfg: Quantitative, sae: SparseAutoencoder, clf: SegmentationHead, dataloader: Loader
) -> Report:
    """One random live latent per class, set to `scale` times its maximum (`random-feature`)."""
    return _evaluate(cfg, RandFeat, sae, clf, dataloader)


@typed
def eval_auto_feat(
    cfg: Quantitative, sae: SparseAutoencoder, clf: SegmentationHead, dataloader: Loader
) -> Report:
    """Each class's looked-up latent, set to `scale` times its maximum (`automatic-feature`).

    Latents are looked up on `cfg.lookup_split` of the dataloader's dataset.
    """
    return _evaluate(cfg, AutoFeat, sae, clf, dataloader)


@typed
def main(cfg: Quantitative) -> None:
    """Runs the three methods in one pass and writes `results.csv` to `cfg.dump_to`.

    Raises:
        SemsegError: the folder cannot be made (found first), or an input is bad.
    """
    cfg = filled(cfg)
    make_folder(Path(cfg.dump_to))
    methods = [_settings(cfg, method) for method in REFERENCE_METHODS]
    outcomes = run(open_session(cfg), methods, _reused(cfg))
    save(
        [_as_reference(outcome.report) for outcome in outcomes],
        str(Path(cfg.dump_to) / "results.csv"),
    )
