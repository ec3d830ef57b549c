"""The numbers of one autoencoder beside others, as in dictionaries.csv."""

from dataclasses import replace

from semseg_cli.runs.metrics.metric import Metric
from semseg_cli.runs.metrics.of_parts import SPLICES, STATISTICS

_BY_ITSELF = {metric.key: metric for metric in (*STATISTICS, *SPLICES)}
_SPLICED = ("explained_variance", "unchanged", "miou_before", "miou_after", "n_lost")


def _quiet(key: str) -> Metric:
    return replace(_BY_ITSELF[key], heading="", shown=(), any_classes=True)


def _of_pca(key: str) -> Metric:
    told = f"`{key}` of PCA with as many axes as latents are active on a patch, in the mean."
    return replace(_quiet(key), key=f"pca_{key}", help=told)


# What a suite tells of the SAE of a run, in the run's own metrics.
OF_DICTIONARIES = (
    *(_quiet(key) for key in ("d_sae", "l0", "dead_share", *_SPLICED)),
    *(_of_pca(key) for key in ("explained_variance", "unchanged", "miou_after", "n_lost")),
)


def _shown(key: str, heading: str, yields: int = 0) -> Metric:
    return replace(_BY_ITSELF[key], heading=heading, shown=("table",), yields=yields)


DICTIONARIES = (
    Metric("rank", "1 and the number of dictionaries that are better by the test: `score` higher "
           "with a p of at most .05, corrected over all pairs (Holm). = where several have it.",
           unit="rank", digits=None, shown=("table",)),
    Metric("layer", "The block whose residuals it reads, counted from 1.", unit="layer",
           digits=None, shown=("table",)),
    Metric(
        "score",
        "The null-calibrated score: mean over classes of target minus other change of the class's "
        "latents, minus that of matched peers (random live latents of the same dictionary, the "
        "edit as long); on images that show the class; classes with enough patches, 0 for one "
        "without a latent. The interval is over images and draws of peers.",
        "beyond\npeers",
        unit="difference of shares",
        shown=("table",),
        has_interval=True,
    ),
    Metric("p_best", "Two-sided p that its score and the highest one are equal, corrected over "
           "all pairs (Holm).", "p to\nhighest", unit="p", shown=("table",)),
    Metric("p_null", "The largest p against the null SAEs of its layer, likewise corrected; 1 "
           "where one of them has as high a score.", "p to\nnulls", unit="p", shown=("table",)),
    Metric("n_causal", "Classes whose latents do what no control does (see `claimed` in "
           "`calibration.csv`).", "claimed", unit="classes", digits=0, shown=("table",)),
    Metric("n_judged", "Classes with a latent and enough predicted patches to be claimed or not.",
           unit="classes", digits=0),
    Metric("n_latents", "Scored classes that it has a latent for.", unit="classes", digits=0),
    Metric("n_scored", "Classes that scores are over: those that some dictionary of the table has "
           "a latent for, with enough predicted patches, in at least 3 images.", unit="classes",
           digits=0),
    _shown("d_sae", "latents", 3),
    _shown("l0", "L0", 1),
    _shown("dead_share", "dead", 3),
    _shown("explained_variance", "expl.\nvar.", 1),
    _shown("unchanged", "un-\nchanged", 2),
    _shown("miou_before", "mIoU\nbefore", 3),
    _shown("miou_after", "mIoU\nafter", 2),
    _shown("n_lost", "lost", 2),
    *OF_DICTIONARIES[-4:],
    Metric("p_pca", "As `p_best`, against latents along principal directions, of its layer.",
           unit="p"),
    Metric("p_random", "The same against latents along random directions.", unit="p"),
    Metric("p_shuffled", "The same against the decoder with its rows permuted.", unit="p"),
    Metric("macro_selectivity", "Macro target minus other change of its run, over its own classes.",
           unit="difference of shares"),
    Metric("null_sae", "Which null SAE it is; empty for a given one.", unit="name", digits=None),
    Metric("site", "Where in the block it reads.", unit="name", digits=None),
    Metric("n_dictionaries", "Of a suite of several: dictionaries that are ranked, null SAEs among "
           "them.", unit="dictionaries", digits=0),
    Metric("n_first", "Of a suite of several: those of them that share the first rank.",
           unit="dictionaries", digits=0),
    Metric("folder", "The run folder of its latents' edits.", unit="name", digits=None),
)  # fmt: skip
