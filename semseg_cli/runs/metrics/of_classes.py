"""The numbers of one class in one run, in the order in which they are shown."""

from semseg_cli.runs.metrics.metric import Metric, against_baseline

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
        "Share of the patches predicted as the class that change class. Over no patch: 0 in "
        "`class_results.csv`, none in `compare`.",
        "target",
        shown=("table", "plots"),
        label="target change",
        has_interval=True,
    ),
    Metric(
        "other_change",
        "Share of the patches predicted as anything else that change class.",
        "other",
        shown=("table", "plots"),
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
    ),
    Metric(
        "n_other_patches",
        "All other patches of the evaluated images, over all draws.",
        unit="patches",
        digits=0,
    ),
    Metric(
        "n_other_changed",
        "Those of them that have another class after the edit.",
        unit="patches",
        digits=0,
    ),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
    *against_baseline("target_change", "target change", is_corrected=True),
    *against_baseline("other_change", "other change", is_corrected=True),
    *against_baseline("selectivity", "selectivity", is_corrected=True),
    Metric(
        "p_draws",
        "How often chance does as well: (1 + draws of the baseline with at least the class's "
        "selectivity) / (1 + draws).",
        unit="p",
    ),
)  # fmt: skip
