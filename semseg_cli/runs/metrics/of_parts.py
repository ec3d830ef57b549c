"""The numbers of what interventions are made with: latents, heads, an autoencoder's statistics."""

from semseg_cli.runs.metrics.metric import Metric

LATENTS = (
    Metric("rank", "Place among the candidates of the class by F1, from 1.", unit="place", digits=0,
           shown=("table",)),
    Metric(
        "drives",
        "Place among all candidate latents by first-order effect of their edit: by which share the "
        "class's mean margin would fall, minus that of all other classes (`--select cause`). "
        "`rank` is the place by F1: how well it detects.",
        "drives",
        unit="place",
        digits=0,
        shown=("table",),
    ),
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
        "Target change by this latent alone, on `n_tried` of the selection images; where it was "
        "measured.",
        "target",
        shown=("table",),
    ),
    Metric("other_change", "Other change by it, likewise.", "other", shown=("table",)),
    Metric("selectivity", "The one minus the other.", "select.", unit="difference of shares",
           shown=("table",)),
    Metric(
        "stability",
        "Share of 200 resamplings of the training images in which the same rule, among the best "
        "10 by F1 (the causal rules: those tried on all selection images), chooses this latent. "
        "Drawn are 64 blocks of neighbouring images; none where fewer than 5 of them have the "
        "class.",
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
        yields=1,
    ),
    Metric("n_tried", "Selection images that the latent's edit was tried on: candidates that are "
           "behind are left out as images are added.", unit="images", digits=0),
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

SPLICES = (
    Metric("dictionary", "The autoencoder, or PCA with as many axes as it has active latents per "
           "patch.", "in place of\nthe residual", unit="name", digits=None),
    Metric("rank", "Mean number of active latents per patch; of PCA its axes.", "L0,\naxes",
           unit="directions", shown=("table",)),
    Metric(
        "explained_variance",
        "1 minus the squared error over the variance of all patches, in the autoencoder's input "
        "space.",
        "explained\nvariance",
        shown=("table",),
    ),
    Metric(
        "unchanged",
        "Share of all patches whose predicted class is the same with the reconstruction in place "
        "of the residual, without its error.",
        "un-\nchanged",
        shown=("table",),
        has_interval=True,
    ),
    Metric("accuracy_before", "Share of labelled patches that are predicted right.",
           "accuracy\nbefore", shown=("table",)),
    Metric("accuracy_after", "The same with the reconstruction.", "after", shown=("table",)),
    Metric("miou_before", "Mean of the classes' IoU over labelled patches; classes without a label "
           "are left out.", "mIoU\nbefore", shown=("table",)),
    Metric("miou_after", "The same with the reconstruction.", "after", shown=("table",)),
    Metric("n_lost", "Classes that more than half of their patches do not keep.", "classes\nlost",
           unit="classes", digits=0, shown=("table",)),
)  # fmt: skip

SPLICED_CLASSES = (
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
    Metric("n_orig_patches", "Patches predicted as the class.", "patches", unit="patches",
           digits=0, shown=("table",)),
    Metric("kept", "Of these the share that still are, with the reconstruction in place of the "
           "residual.", shown=("table",), has_interval=True),
    Metric("kept_pca", "The same with PCA of equal rank.", "kept\nby PCA", shown=("table",)),
    Metric("iou_before", "IoU over labelled patches.", "IoU\nbefore", shown=("table",)),
    Metric("iou_after", "The same with the reconstruction.", "after", shown=("table",)),
    Metric("iou_after_pca", "The same with PCA of equal rank.", "PCA", shown=("table",)),
    Metric("recall_before", "Share of the patches labelled as the class that are predicted so."),
    Metric("recall_after", "The same with the reconstruction."),
    Metric("lost", "1 where fewer than half of the class's patches are kept: the autoencoder "
           "cannot explain this class.", unit="0 or 1", digits=0, shown=("table",)),
)  # fmt: skip

GROUPS = (
    Metric("target_change", "Share of the patches predicted as the class that change class when "
           "its smallest group is set, on the evaluated split.", "target", shown=("table",),
           has_interval=True),
    Metric("other_change", "Other change by it, likewise.", "other", shown=("table",),
           has_interval=True),
    Metric("selectivity", "The one minus the other.", "select.", unit="difference of shares",
           shown=("table",), has_interval=True, is_signed=True),
    Metric("n_best", "Latents of the best group.", "of best\ngroup", unit="latents", digits=0,
           shown=("table",)),
    Metric(
        "kind",
        "Word for it. one: a latent is enough for 90% of the best group's target change; split: "
        "several are needed; absent: on the evaluated split they change the class's patches by "
        "less than 0.5 more than others; not told: no patch is predicted as the class.",
        unit="word",
        digits=None,
    ),
    Metric("place", "When the latent was added, from 1.", unit="place", digits=0),
    Metric("latent", "Number of the latent in the autoencoder, from 0.", unit="latent", digits=0),
    Metric("chosen", "0 where the class is absent: `--lookup` leaves it out.", unit="0 or 1",
           digits=0),
    Metric("target_choosing", "Target change on the selection images with the latents up to this "
           "one."),
    Metric("other_choosing", "Other change, likewise."),
    Metric("best_target_choosing", "Target change of the best group on the selection images."),
    Metric("n_orig_patches", "Patches predicted as the class on the evaluated split.",
           unit="patches", digits=0),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
)  # fmt: skip
