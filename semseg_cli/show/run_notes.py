"""What stands below tables of runs: what intervals are over, what is left out, where curves end."""

import math
from collections.abc import Iterable, Mapping, Sequence

from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.runs.rows import Row
from semseg_cli.show.tables import cell, plain_number


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def spread(numbers: Iterable[float]) -> str:
    """The least and the largest of these numbers, `40-101`, or the one that all are."""
    least, largest = min(known := list(numbers)), max(known)
    shown = plain_number(least)
    return shown if least == largest else f"{shown}-{plain_number(largest)}"


def n_classes_text(counts: Sequence[int], n_asked: int | None = None) -> str:
    """How many classes numbers are over: `10 of 11 classes` where one has no latent; of runs with
    other counts from the least to the largest."""
    of = f" of {n_asked}" if n_asked is not None and {n_asked} != set(counts) else ""
    return f"{spread(counts)}{of} class{'' if not of and set(counts) == {1} else 'es'}"


def by_run(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes of runs, each once: with the names of its runs where it is not about all."""
    said: dict[str, list[str]] = {}
    for name, of_run in notes.items():
        for note in of_run:
            said.setdefault(note, []).append(name)
    return [
        note if len(names) == len(notes) else f"{listed(names)}: {note}"
        for note, names in said.items()
    ]


def interval_notes(
    rows: Sequence[Row], keys: Iterable[str], first: str = "run", *, is_below: bool = False
) -> list[str]:
    """What the intervals of these columns are over, and the rule where there are none.

    `first` is the key of the rows' names; `is_below`: another table has said the former.
    """
    from semseg_cli.runs.inference.answers import FEW_IMAGES, MIN_IMAGES  # scipy takes a while

    pairs = [(row, key) for row in rows for key in keys if row.get(key) is not None]
    sure = [(row, key) for row, key in pairs if row.get(f"{key}_lo") is not None]
    units = _units(rows)
    notes = []
    if sure and not is_below:
        notes.append(
            f"[ ], >=, <=: 95% interval over other {units} like these, for the same latents."
        )
    notes += [thin_note(rows)] if any(is_thin(row, key) for row, key in pairs) else []
    few = [row[first] for row, key in sure if _n_images(row, key) < FEW_IMAGES and first in row]
    if few:
        notes.append(
            f"Few {units} ({MIN_IMAGES} to {FEW_IMAGES - 1}): {listed(list(dict.fromkeys(few)))}."
        )
    return notes


def _units(rows: Sequence[Row]) -> str:
    return "groups" if any(row.get("unit") for row in rows) else "images"


def is_thin(row: Row, key: str) -> bool:
    """Whether images stand in place of the interval of a number."""
    is_there = row.get(key) is not None and bool(row.get(f"{key}_n_images"))
    return is_there and row.get(f"{key}_lo") is None


def thin_note(rows: Sequence[Row]) -> str:
    """What they mean."""
    from semseg_cli.runs.inference.answers import MIN_IMAGES  # scipy takes a while

    unit = "groups" if _units(rows) == "groups" else "img"
    return (
        f"2/3 {unit}: a change in 2 of 3, too few (below {MIN_IMAGES}), uneven or alike for an "
        "interval."
    )


def _n_images(row: Row, key: str) -> float:
    n_images = row.get(f"{key}_n_images", row.get("n_images"))
    return math.inf if n_images is None else float(n_images)


def exclusions(report: Report) -> str:
    """The classes that no macro mean is over, and why, in one line; '' where all are in."""
    counted = report.class_results
    kept = {result.class_id for result in report.macro_results}
    left = [result for result in counted if result.class_id not in kept]
    unseen = [result for result in left if not result.n_orig_patches]
    few = [r for r in left if 0 < r.n_orig_patches < report.least_patches]
    rest = [result for result in left if result not in unseen and result not in few]
    reasons = {
        "without a latent": report.no_latent,
        NEVER: _names(unseen),
        with_few(report.min_patches): _names(few),
        f"in fewer than 3 {'groups' if 'n_groups' in report.extra else 'images'}": _names(rest),
    }
    parts = [f"{len(names)} {why} ({listed(names)})" for why, names in reasons.items() if names]
    said = f"macro: {len(kept)} of {report.n_asked} classes; not {', '.join(parts)}."
    return said if parts else ""


NEVER = "never predicted"


def with_few(min_patches: int) -> str:
    """What classes with too few patches to be ranked are."""
    return f"with fewer than {max(1, min_patches)} predicted patches"


def _names(results: Sequence[ClassResults]) -> list[str]:
    return [result.class_name for result in results]


def n_target_patches(report: Report) -> int:
    """The patches of one draw that are predicted as the classes that are counted."""
    return sum(result.n_orig_patches for result in report.class_results) // report.n_draws


def of_class_rows(report: Report) -> str:
    """Which patches the numbers of a class are over."""
    images = f"{report.n_images} image{'s' * (report.n_images != 1)}"
    return f"target is over a class's predicted patches, other over all others of {images}."


def patches_add_up(report: Report) -> list[str]:
    """How the classes' patches make up those of all images; nothing where these are not known."""
    if not report.n_patches:
        return []
    n_target = n_target_patches(report)
    rest = report.n_patches - n_target
    other = f" (the other {rest:,} as classes without a row)" if rest > 0 else ""
    return [
        f"patches: predicted as the class, {n_target:,} of all {report.n_patches:,} "
        f"together{other}; changed: those with another class after the edit; target: changed by "
        "patches."
    ]


def half_effect_text(metrics: Mapping[str, float]) -> str | None:
    """The scale of half effect, `> 4` where the curve ends below; None without a curve."""
    if "curve_end" not in metrics:
        return None
    beyond = f"> {plain_number(abs(metrics['curve_end']))}"
    value = metrics.get("half_effect_scale")
    return beyond if value is None else cell(value, precision=2)


def _half_effect_interval(metrics: Mapping[str, float]) -> str:
    """` [1.52, > 4]`; ends that the curve does not reach lie beyond it."""
    if "half_effect_scale_lo" not in metrics:
        return ""
    ends = [metrics.get(f"half_effect_scale_{end}") for end in ("lo", "hi")]
    beyond = f"> {plain_number(abs(metrics['curve_end']))}"
    return f" [{', '.join(beyond if end is None else cell(end, precision=2) for end in ends)}]"


def curve_note(name: str, metrics: Mapping[str, float]) -> str:
    """A method's curve in a sentence."""
    return (
        f"{name}: half of the classes' patches change at scale {half_effect_text(metrics)}"
        f"{_half_effect_interval(metrics)} (magnitude), mean macro "
        f"selectivity {cell(metrics['curve_area'])} from 0 to "
        f"{plain_number(metrics['curve_end'])}."
    )


def overlaps(runs: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    """That images are in both splits, of runs by name and their metrics."""
    found = {name: metrics["n_overlap"] for name, metrics in runs if "n_overlap" in metrics}
    said = [f"{n:g} in {name}" for name, n in found.items()]
    return [
        f"Evaluated images that latents were chosen on, too: {listed(said)}. Expect too good "
        "numbers."
    ] * bool(said)
