"""The numbers of what interventions are made with: latents, heads, an autoencoder's statistics."""

from semseg_cli.runs.metrics.metric import Metric

LATENTS = (
    Metric("rank", "Place among the candidates of the class, from 1.", unit="place", digits=0,
           shown=("table",)),
    Metric("latent", "Number of the latent in the autoencoder, from 0.", unit="latent", digits=0,
           shown=("table",)),
    Metric(
        "threshold_share",
        "The latent detects a patch where its activation is above this share of its maximum: of "
        "those tried, the one with the best F1.",
        "above",
        unit="share of maximum",
        digits=None,
        shown=("table",),
    ),
    Metric(
        "f1",
        "Harmonic mean of precision and recall, over all clean patches of the lookup split; "
        "patches whose label fills less than `--label-threshold` of them are left out.",
        "F1",
        shown=("table",),
    ),
    Metric("precision", "Share of the detected patches that are of the class.", "prec.",
           shown=("table",)),
    Metric("recall", "Share of the class's patches that are detected.", "recall",
           shown=("table",)),
    Metric("n_patches", "Clean patches of the class in the lookup split.", "patches",
           unit="patches", digits=0, shown=("table",)),
    Metric(
        "target_change",
        "Target change by this latent alone, on the selection images; where it was measured.",
        "target",
        shown=("table",),
    ),
    Metric("other_change", "Other change by it, likewise.", "other", shown=("table",)),
    Metric("selectivity", "The one minus the other.", "select.", unit="difference of shares",
           shown=("table",)),
    Metric(
        "stability",
        "Share of 200 resamplings of the training images in which the same rule, among the best "
        "10 by F1 (the causal rule: those that it tried), chooses this latent. Drawn are 64 blocks "
        "of neighbouring images; none where fewer than 5 of them have the class.",
        "stable",
        shown=("table",),
    ),
    Metric(
        "runner_up",
        "On a chosen latent: of the others the one that those resamplings choose most often, the "
        "second best where they choose no other.",
        "runner\n-up",
        unit="latent",
        digits=0,
        shown=("table",),
    ),
    Metric("threshold", "That threshold as an activation.", unit="activation", digits=None),
    Metric("class_share", "Share of the classes with clean patches on at least 1% of which the "
           "latent is above its threshold."),
    Metric("iou", "Detected patches of the class over patches that are detected or of it.",
           "IoU"),
    Metric("frequency", "Share of all patches on which the latent is active."),
    Metric("maximum", "Largest activation of the latent.", unit="activation"),
    Metric("chosen", "1 for a latent that is set, 0 for the other candidates.", unit="0 or 1",
           digits=0),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
)  # fmt: skip

HEADS = (
    Metric("lr", "Learning rate.", "learning\nrate", unit="rate", digits=None, shown=("table",)),
    Metric("weight_decay", "Weight decay.", unit="rate", digits=None, shown=("table",)),
    Metric(
        "miou",
        "Mean of the classes' IoU on the held-out images of the training split, from all pixels "
        "that have a class; classes that do not occur are left out. What heads are chosen by.",
        "mIoU",
        shown=("table",),
    ),
    Metric("accuracy", "Share of those pixels that are given their class.",
           "pixel\naccuracy", shown=("table",)),
    Metric("evaluation_miou", "The same as `miou` on the evaluation split (`--imgs-split`): of the "
           "chosen head only, measured once."),
    Metric("evaluation_accuracy", "The same as `accuracy` there."),
    Metric("epoch", "The epoch at which the head was best, from 1.", unit="epochs", digits=0,
           shown=("table",)),
    Metric("n_epochs", "Epochs that were trained.", unit="epochs", digits=0),
    Metric("iou", "Of one class on the evaluation split: pixels that have it and are given it, "
           "over pixels that have it or are given it.", "IoU"),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
)  # fmt: skip

STATISTICS = (
    Metric("l0", "Mean number of active latents per patch.", "L0", unit="latents",
           shown=("table",)),
    Metric("dead_share", "Share of the latents that are active on no patch of the split.", "dead",
           shown=("table",)),
    Metric("n_alive", "Latents that are active on some patch.", "alive\nlatents", unit="latents",
           digits=0, shown=("table",)),
    Metric("d_sae", "Latents of the autoencoder.", "latents", unit="latents", digits=0,
           shown=("table",)),
    Metric(
        "act_norm",
        "Mean L2 length of the residuals minus their mean, divided by the square root of the "
        "model's width.",
        "norm",
        unit="residual stream",
        shown=("table",),
    ),
    Metric("mean_norm", "L2 length of the mean residual.", "length\nof mean",
           unit="residual stream", shown=("table",)),
    Metric("n_images", "Images of the split.", "images", unit="images", digits=0,
           shown=("table",)),
    Metric("n_patches", "Patches of all of these images.", unit="patches", digits=0),
)  # fmt: skip
