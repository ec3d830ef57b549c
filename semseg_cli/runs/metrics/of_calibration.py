"""The numbers of one class among its nulls, as in calibration.csv."""

from typing import Literal

from semseg_cli.runs.metrics.metric import Metric

_OF_NULL: dict[str, tuple[str, str, Literal[0, 3]]] = {
    "n": ("how many there are", "latents", 0),
    "median": ("the median of their scores", "difference of shares", 3),
    "p95": ("the 95th percentile of their scores", "difference of shares", 3),
}


def _null(name: str, which: str) -> tuple[Metric, ...]:
    heading = {"n": "number", "median": "median", "p95": "95th"}
    short = name.replace("_", " ")
    rows = tuple(
        Metric(f"{name}_{key}", f"Of {which}: {what}.", f"{short}\n{heading[key]}", unit=unit,
               digits=digits, shown=("table",) if key != "n" else ())
        for key, (what, unit, digits) in _OF_NULL.items()
    )  # fmt: skip
    p = Metric(
        f"{name}_p", "(1 + those whose score is as large as the class's own, on the same images) / "
        f"(1 + all), of {which}.", unit="p",
    )  # fmt: skip
    return (*rows, p)


CALIBRATION = (
    Metric("latent", "The latents that are set for the class, joined by +.", unit="latent",
           digits=0),
    Metric("target_change", "Share of the patches predicted as the class that change class when "
           "its latents are set, on the images that peers are tried on.", "target"),
    Metric("other_change", "The same of all other patches.", "other"),
    Metric("value", "The class's score: target change minus other change, on those images.",
           "score", unit="difference of shares", shown=("table",)),
    *_null("peers", "peers, random live latents that are set to the same scale of their own maxima "
           "(never the class's own)"),
    Metric("matched_value", "The class's score on the images that matched peers are tried on.",
           "matched\nscore", unit="difference of shares"),
    *_null("matched", "matched peers, random live latents whose edit is as long as the class's, "
           "patch by patch"),
    Metric("n_matched_images", "Images with patches of the class that matched peers are tried on.",
           unit="images", digits=0),
    Metric("rival", "The best score for this class that the latents of another class reach; "
           "latents that both have are left out.", "best\nother", unit="difference of shares",
           shown=("table",)),
    Metric("rival_class", "Whose latents those are.", unit="class", digits=None),
    Metric("spill", "Largest change of the patches of any other class that has enough of them."),
    Metric("spill_class", "Which class that is.", unit="class", digits=None),
    Metric("necessity", "Share of the class's patches that change class when its latents are set "
           "to 0, on the images that peers are tried on."),
    Metric("n_patches", "Patches predicted as the class on those images.", unit="patches",
           digits=0),
    Metric("p", "The larger of `peers_p` and `matched_p`.", unit="p"),
    Metric("p_adjusted", "`p` corrected over the classes that are judged (Benjamini-Hochberg), "
           "in which those that another check refuses count as 1.",
           "p", unit="p", shown=("table",)),
    Metric("claimed", "1 where the latents do for the class what no control does: p_adjusted at "
           "most .05; value above rival; target change at least a half; spill below half of it; "
           "necessity at least .05.",
           unit="0 or 1", digits=0),
    Metric("doubt", "Why the class is not claimed.", unit="text", digits=None),
    Metric("class_id", "The number of the class in masks and head, from 1.", unit="id",
           digits=None),
)  # fmt: skip
