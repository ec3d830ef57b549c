"""The numbers of one class in one run, in the order in which they are shown."""

from dataclasses import replace

from semseg_cli.runs.metrics.metric import Metric, against_baseline
from semseg_cli.runs.metrics.of_outcomes import OF_CLASSES

_BH = "the classes with enough predicted patches (Benjamini-Hochberg); none for the others"
_DIFFERENCE, _P, _P_ADJUSTED = against_baseline("selectivity", "selectivity", _BH)

CLASSES = (
    Metric(
        "latent",
        "The latents that are set for the class, joined by +; none for random controls with "
        "several draws and for directions that are no latent's.",
        unit="latent",
        digits=0,
        shown=("table",),
    ),
    Metric(
        "target_change",
        "Share of the patches predicted as the class that change class; none over no patch.",
        "target",
        shown=("table", "plots"),
        short="target",
        label="target change",
        has_interval=True,
    ),
    Metric(
        "other_change",
        "Share of the patches predicted as anything else that change class.",
        "other",
        shown=("table", "plots"),
        short="other",
        label="other change",
        has_interval=True,
    ),
    Metric(
        "selectivity",
        "Target change of the class minus its other change, from -1 to 1.",
        "selectivity",
        unit="difference of shares",
        shown=("table", "plots"),
        has_interval=True,
    ),
    Metric(
        "n_class_images",
        "Images (or groups) with patches predicted as the class: its numbers are over these.",
        "images",
        unit="images",
        digits=0,
        shown=("table",),
        short="images",
    ),
    Metric(
        "n_orig_patches",
        "Patches predicted as the class before the edit, over all draws in `class_results.csv`, "
        "of one draw in `compare`.",
        "patches",
        unit="patches",
        digits=0,
        shown=("table",),
        short="patches",
    ),
    Metric(
        "n_class_images_range",
        "Of `compare`, where runs differ in it (they are on other images): the least and the "
        "largest `n_class_images`; each run's own then stands with its other columns.",
        "images",
        unit="images",
        digits=None,
    ),
    Metric(
        "n_orig_patches_range",
        "The same of `n_orig_patches`.",
        "patches",
        unit="patches",
        digits=None,
    ),
    Metric(
        "n_changed_patches",
        "Those of them that have another class after it.",
        "changed",
        unit="patches",
        digits=0,
        shown=("table",),
    ),
    Metric(
        "stability",
        "Where the latent was chosen: how often it is chosen again, as in `lookup.csv`.",
        "stable",
        shown=("table",),
    ),
    Metric(
        "runner_up",
        "The latent that was chosen next most often, as in `lookup.csv`.",
        "runner\n-up",
        unit="latent",
        digits=0,
        shown=("table",),
        yields=1,
    ),
    Metric(
        "n_other_patches",
        "All other patches of the evaluated images, over all draws; estimated where the class was "
        "run on a sample of the images without it, as is what comes of them.",
        unit="patches",
        digits=0,
    ),
    Metric(
        "n_other_changed",
        "Those of them that have another class after the edit.",
        unit="patches",
        digits=0,
    ),
    Metric(
        "n_other_images",
        "Images without the class that it was run on, which stand for all of them "
        "(`--other-images`); none where all were run.",
        unit="images",
        digits=0,
    ),
    *OF_CLASSES,
    Metric("unit", "What was sampled, where it is not the image.", unit="text", digits=None),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
    *against_baseline("target_change", "target change", _BH),
    *against_baseline("other_change", "other change", _BH),
    replace(_DIFFERENCE, short="difference"),
    replace(_P, short="p"),
    _P_ADJUSTED,
)  # fmt: skip
