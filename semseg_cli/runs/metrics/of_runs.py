"""The numbers of a run, in the order in which they are shown."""

from dataclasses import replace

from semseg_cli.runs.metrics.metric import Metric, against_baseline

_DIFFERENCE, _P = against_baseline("selectivity", "selectivity", is_corrected=False)

RUNS = (
    Metric(
        "target_change",
        "Share of the patches predicted as a class that change class when its latents are set; "
        "patches of all classes pooled, so large classes weigh more. 0 where no patch is "
        "predicted as any class.",
        "target",
        shown=("table", "tiles", "view", "plots"),
        short="target",
        label="target change",
        has_interval=True,
    ),
    Metric(
        "other_change",
        "Share of all other patches that change class with it; pooled over classes, so a patch "
        "counts once for every counted class that it is not predicted as.",
        "other",
        shown=("table", "tiles", "view", "plots"),
        short="other",
        label="other change",
        has_interval=True,
    ),
    Metric(
        "selectivity",
        "Pooled target change minus pooled other change, from -1 to 1: 1 is a latent that drives "
        "its class and nothing else.",
        "selectivity",
        unit="difference of shares",
        shown=("table", "tiles", "view", "plots"),
        has_interval=True,
    ),
    Metric(
        "necessity",
        "Of `ablate` only: its target change, the share of the patches predicted as a class that "
        "change class when its latents are set to 0; pooled over classes.",
        has_interval=True,
    ),
    Metric(
        "sufficiency",
        "Of `insert` only: share of all other patches that become the class when its latents are "
        "set to their maxima in them; pooled over classes. None where there is no other patch.",
        has_interval=True,
    ),
    replace(_DIFFERENCE, heading="vs\nbaseline", shown=("table",), short="difference"),
    replace(_P, heading="p", shown=("table",), short="p"),
    Metric(
        "macro_target_change",
        "Mean of the classes' target changes, each class alike; classes with fewer than "
        "`--min-patches` predicted patches are left out.",
        "macro\ntarget",
        shown=("table", "tiles", "view"),
        short="macro_target",
        has_interval=True,
        only_wide=True,
    ),
    Metric(
        "macro_other_change",
        "Mean of the classes' other changes, over the same classes as `macro_target_change`.",
        "macro\nother",
        shown=("table", "tiles", "view"),
        short="macro_other",
        has_interval=True,
        only_wide=True,
    ),
    Metric(
        "edit_norm",
        "Mean L2 length of the edit over the edited patches, in units of the residual stream: "
        "compare controls of like length.",
        "edit\nnorm",
        unit="residual stream",
        shown=("table", "tiles", "view"),
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
    *against_baseline("target_change", "target change", is_corrected=False),
    *against_baseline("other_change", "other change", is_corrected=False),
    Metric(
        "p_draws",
        "How often chance does as well: (1 + draws of the baseline with at least the run's "
        "selectivity) / (1 + draws), over the classes that both have.",
        unit="p",
    ),
    Metric(
        "half_effect_scale",
        "Scale at which the pooled target change first reaches one half, by linear interpolation "
        "between the scales of the command (the first scale if it is there already); none where "
        "the curve stays below.",
        unit="scale",
    ),
    Metric(
        "curve_area",
        "Mean of pooled target minus other change over the range of scales of the command "
        "(trapezoids), from -1 to 1; none for one scale.",
        unit="difference of shares",
    ),
    Metric(
        "flip_rate",
        "Share of all patches of the first 32 evaluated images whose clean class differs from "
        "that in float32; none for a run in float32.",
    ),
    Metric("scale", "The scale of the edit.", unit="scale", digits=None),
    Metric("n_classes", "Classes that are counted.", unit="classes", digits=None),
    Metric("n_images", "Images evaluated.", unit="images", digits=None),
    Metric("n_patches", "Patches of all images evaluated.", unit="patches", digits=None),
    Metric(
        "n_draws",
        "Independent draws of a random control, whose counts add up; none for one draw.",
        unit="draws",
        digits=None,
    ),
)
