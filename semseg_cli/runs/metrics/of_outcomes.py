"""What changed class means: the outcomes beside change, of a class and of a run.

A run's are over the patches of all classes pooled, but for mIoU, a mean over classes.
"""

from semseg_cli.runs.metrics.metric import Metric

BOTH = (
    Metric(
        "became_share",
        "Of the target patches that changed class, the share that became the class that most of "
        "them became; of a run pooled over classes. No interval: which class that is, is itself "
        "drawn. None where no patch changed.",
    ),
    Metric(
        "became_entropy",
        "Entropy of the classes that changed target patches became, in bits: 0 where all became "
        "one class, 1 where two by halves; of a run weighted by changed patches. None where no "
        "patch changed.",
        unit="bits",
    ),
    Metric(
        "became_right",
        "Of the target patches whose label is another class, the share predicted as their label "
        "after the edit. None where no target patch is wrong.",
        has_interval=True,
    ),
    Metric(
        "damage",
        "Other patches that were predicted as their label and are not after the edit, minus those "
        "that were not and are, over all other patches; those without a label count as unharmed.",
        unit="difference of shares",
        shown=("tiles",),
        has_interval=True,
        is_signed=True,
        over="of all other patches, pooled",
    ),
    Metric(
        "interior_other_change",
        "Other change over the other patches whose eight neighbours (fewer at the image's edge) "
        "have the same clean prediction: without the borders between classes.",
        shown=("tiles",),
        short="interior",
        has_interval=True,
        over="of others within one class, pooled",
    ),
    Metric(
        "distant_other_change",
        "Other change over the other patches without a target patch among the patches within 2 "
        "rows and columns: harm elsewhere, not next to the object.",
        short="distant",
        has_interval=True,
    ),
    Metric(
        "absent_change",
        "Share of patches that change class on images of which no patch is labelled or predicted "
        "as the class. None in the label protocol, which sets no latent of a class that is absent, "
        "but for edits that all classes share.",
        short="absent",
        has_interval=True,
    ),
    Metric(
        "target_accuracy_before",
        "Of the patches labelled as the class, the share predicted as it, before the edit.",
        has_interval=True,
    ),
    Metric(
        "target_accuracy_after",
        "The same after the edit.",
        has_interval=True,
    ),
    Metric(
        "other_accuracy_before",
        "Of the patches labelled as another class, the share predicted as their label, before the "
        "edit.",
        has_interval=True,
    ),
    Metric("other_accuracy_after", "The same after the edit.", has_interval=True),
    Metric(
        "other_miou_before",
        "Mean over all other labelled classes of their IoU (patches both labelled and predicted as "
        "the class, over those that are either, among labelled ones), before the edit; of a run "
        "averaged over its classes. No interval: it is no mean over images.",
    ),
    Metric("other_miou_after", "The same after the edit."),
    Metric(
        "margin_drop",
        "Mean over target patches of how far the margin falls: the clean class's logit less the "
        "largest other class's, before minus after. In standard deviations of the clean margins "
        "of all patches of all evaluated images (`margin_deviation`).",
        unit="deviations",
        shown=("tiles",),
        short="margin",
        has_interval=True,
        is_signed=True,
        over="mean over {patches}",
    ),
    Metric(
        "other_margin_change",
        "Mean over other patches of how far the margin of their own clean class moves, up or down, "
        "in the same units.",
        unit="deviations",
        short="other_margin",
        has_interval=True,
    ),
    Metric(
        "edit_ratio",
        "Mean over edited patches of the edit's L2 length by that of the residual it is added to.",
        "edit\nratio",
        unit="ratio of lengths",
        shown=("table", "tiles"),
        yields=1,
        has_interval=True,
        over="mean over edited patches",
    ),
    Metric(
        "off_manifold",
        "Mean over edited patches of the share of clean patches that lie nearer to their mean than "
        "the edited one: about .5 for clean residuals, 1 where it is farther off than all. By the "
        "Mahalanobis distance under mean and shrunk covariance of the residuals of at most 128 "
        "lookup images; a fourth of them is held out to be compared with.",
        "off\nmanifold",
        shown=("table", "tiles"),
        has_interval=True,
        yields=1,
        over="mean over edited patches",
    ),
)
OF_CLASSES = (
    Metric(
        "became",
        "The class that most of its changed patches became; of several the first by number.",
        unit="class",
        digits=None,
    ),
    *BOTH,
    Metric(
        "target_iou_before",
        "Among labelled patches, those both labelled and predicted as the class over those that "
        "are either, before the edit.",
        has_interval=True,
    ),
    Metric("target_iou_after", "The same after the edit.", has_interval=True),
    Metric(
        "edit_norm",
        "Mean L2 length of the edit over the patches that the class's edit is added to, in units "
        "of the residual stream.",
        unit="residual stream",
        has_interval=True,
    ),
)
OF_RUNS = (
    *BOTH,
    Metric(
        "target_miou_before",
        "Mean over the counted classes of `target_iou_before`, classes that are neither labelled "
        "nor predicted left out. No interval: it is no mean over images.",
    ),
    Metric("target_miou_after", "The same after the edit."),
    Metric(
        "margin_deviation",
        "Standard deviation of the clean margins of all patches of all evaluated images: the unit "
        "of margins. 1 where only rounding differs.",
        unit="logits",
        any_classes=True,
    ),
)
