"""The numbers of a run, in the order in which they are shown."""

from dataclasses import replace

from semseg_cli.runs.metrics.metric import Metric, against_baseline
from semseg_cli.runs.metrics.of_dictionaries import OF_DICTIONARIES
from semseg_cli.runs.metrics.of_outcomes import OF_RUNS

_HOLM = "the runs of the table (Holm)"
_DIFFERENCE, _P, _P_ADJUSTED = against_baseline("macro_selectivity", "macro selectivity", _HOLM)

RUNS = (
    Metric(
        "macro_target_change",
        "Mean of the classes' target changes, each class alike; classes with fewer than "
        "`--min-patches` predicted patches, or in fewer than 3 images, are left out. None over no "
        "class.",
        "macro\ntarget",
        shown=("table", "tiles", "view", "plots"),
        short="macro_target",
        label="macro target change",
        has_interval=True,
        over="mean over {classes}",
    ),
    Metric(
        "macro_other_change",
        "Mean of the classes' other changes, over the same classes as `macro_target_change`.",
        "macro\nother",
        shown=("table", "tiles", "view", "plots"),
        short="macro_other",
        label="macro other change",
        has_interval=True,
        over="mean over {classes}",
    ),
    Metric(
        "macro_selectivity",
        "Macro target change minus macro other change, from -1 to 1: 1 is latents that drive their "
        "classes and nothing else. What runs are sorted by.",
        "macro\nselectivity",
        unit="difference of shares",
        shown=("table", "tiles", "view", "plots"),
        short="macro",
        has_interval=True,
        over="mean over {classes}",
    ),
    replace(_DIFFERENCE, heading="vs\nbaseline", shown=("table",), short="difference"),
    _P,
    replace(_P_ADJUSTED, heading="p", shown=("table",), short="p"),
    Metric(
        "target_change",
        "Share of the patches predicted as a class that change class when its latents are set; "
        "patches of all classes pooled, so large classes weigh more. None where no patch is "
        "predicted as any class.",
        "pooled\ntarget",
        shown=("table", "tiles", "view"),
        short="target",
        label="pooled target change",
        has_interval=True,
        yields=2,
        over="of {patches}, pooled",
    ),
    Metric(
        "other_change",
        "Share of all other patches that change class with it; pooled over classes, so a patch "
        "counts once for every counted class that it is not predicted as.",
        "pooled\nother",
        shown=("table", "tiles", "view"),
        short="other",
        label="pooled other change",
        has_interval=True,
        yields=2,
        over="of all other patches, pooled",
    ),
    Metric(
        "selectivity",
        "Pooled target change minus pooled other change, from -1 to 1.",
        "pooled\nselectivity",
        unit="difference of shares",
        shown=("tiles", "view"),
        has_interval=True,
        over="pooled target minus other",
    ),
    Metric(
        "necessity",
        "Of `ablate` only: its target change, the share of the patches predicted as a class that "
        "change class when its latents are set to 0; pooled over classes.",
        has_interval=True,
        over="of {patches}, pooled",
    ),
    Metric(
        "sufficiency",
        "Of `insert` only: share of all other patches that become the class when its latents are "
        "set to their maxima in them; pooled over classes. None where there is no other patch.",
        has_interval=True,
        over="of all other patches, pooled",
    ),
    Metric(
        "edit_norm",
        "Mean L2 length of the edit over the edited patches, in units of the residual stream: "
        "compare controls of like length.",
        "edit\nnorm",
        unit="residual stream",
        shown=("table", "tiles", "view"),
        over="mean over edited patches",
    ),
    Metric(
        "target_std",
        "Population standard deviation of the classes' target changes; all classes, one without "
        "predicted patches as 0.",
    ),
    Metric(
        "other_std",
        "Population standard deviation of the classes' other changes; all classes.",
    ),
    *against_baseline("macro_target_change", "macro target change", _HOLM),
    *against_baseline("macro_other_change", "macro other change", _HOLM),
    *against_baseline("target_change", "pooled target change", _HOLM),
    *against_baseline("other_change", "pooled other change", _HOLM),
    *against_baseline("selectivity", "pooled selectivity", _HOLM),
    Metric(
        "half_effect_scale",
        "Magnitude of the scale at which the macro target change first reaches one half, by linear "
        "interpolation between the scales of the command and 0 (the clean image, or the ablation "
        "where scale 0 was run); none where the curve stays below one half up to `curve_end`, "
        "which tables show as > that scale. Its interval is where the upper and the lower end of "
        "the curve's intervals reach one half; an end beyond `curve_end` is left out.",
        unit="scale",
        has_interval=True,
    ),
    Metric(
        "curve_area",
        "Mean of macro target minus other change from 0 to `curve_end` (trapezoids), from -1 to 1; "
        "none for one scale.",
        unit="difference of shares",
    ),
    Metric(
        "curve_end",
        "The scale, largest by magnitude, at which the curve of `curve_area` and "
        "`half_effect_scale` ends.",
        unit="scale",
        digits=None,
    ),
    Metric(
        "flip_rate",
        "Share of all patches of the first 32 evaluated images whose clean class differs from "
        "that in float32; none for a run in float32.",
        any_classes=True,
    ),
    *OF_RUNS,
    *OF_DICTIONARIES,
    Metric(
        "n_causal",
        "Of a suite: classes whose latents do what no control does (see `claimed` in "
        "`calibration.csv`).",
        "classes\nclaimed",
        unit="classes",
        digits=0,
    ),
    Metric(
        "n_judged",
        "Classes with a latent and with enough predicted patches to be claimed or not.",
        unit="classes",
        digits=0,
    ),
    Metric("scale", "The scale of the edit.", unit="scale", digits=None, any_classes=True),
    Metric("n_classes", "Classes that are counted.", unit="classes", digits=None, any_classes=True),
    Metric(
        "n_classes_compared",
        "Classes that all runs of a table have: its numbers are over these.",
        unit="classes",
        digits=None,
    ),
    Metric(
        "n_groups",
        "Groups of images (`--group-by`), each taken as one sample.",
        unit="groups",
        digits=None,
        any_classes=True,
    ),
    Metric(
        "unit",
        "What was sampled, where it is not the image.",
        unit="text",
        digits=None,
        any_classes=True,
    ),
    Metric("n_images", "Images evaluated.", unit="images", digits=None, any_classes=True),
    Metric(
        "n_overlap",
        "Evaluated images that are also among those that latents were chosen on, by their "
        "contents (`--allow-overlap`); none where no image is.",
        unit="images",
        digits=None,
        any_classes=True,
    ),
    Metric(
        "run_share",
        "Share of all pairs of an image and a class that were run: all images with the class and a "
        "sample of the others (`--other-images`); none where all were.",
    ),
    Metric(
        "n_patches",
        "Patches of all images evaluated.",
        unit="patches",
        digits=None,
        any_classes=True,
    ),
    Metric(
        "n_draws",
        "Independent draws of a random control, whose counts add up; none for one draw.",
        unit="draws",
        digits=None,
        any_classes=True,
    ),
)
