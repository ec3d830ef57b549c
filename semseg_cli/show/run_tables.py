"""What a run shows at its end: its metrics, its classes, its latents, as tables."""

from collections.abc import Collection, Mapping, Sequence

from semseg_cli.runs.choice import choice_notes, is_broad, of_several
from semseg_cli.runs.metrics import (
    CLASSES,
    HEADS,
    LATENTS,
    RUNS,
    STATISTICS,
    Metric,
    shown,
)
from semseg_cli.runs.report import Report
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import (
    NEVER,
    by_run,
    curve_note,
    exclusions,
    interval_notes,
    is_thin,
    listed,
    n_classes_text,
    overlaps,
    thin_note,
    with_few,
)
from semseg_cli.show.tables import Column, Table

NAME = Column("run", "run", "text", elastic=True)
CLASS = Column("class_name", "class", "text", elastic=True)
SCALE = Column("scale", "scale", "setting")  # in tables of several
CHOSEN = Column("chosen", "", "mark")  # in tables of candidates


def to_column(metric: Metric) -> Column:
    """The column of a metric."""
    return Column(metric.key, metric.header, metric.kind, yields=metric.yields)


def columns_of(metrics: tuple[Metric, ...]) -> tuple[Column, ...]:
    return tuple(to_column(metric) for metric in shown(metrics, "table"))


METRICS = columns_of(RUNS)
CLASS_COLUMNS = (CLASS, *columns_of(CLASSES))
LOOKUP_COLUMNS = (CLASS, *columns_of(LATENTS))
SWEEP_COLUMNS = columns_of(HEADS)
STATS_COLUMNS = columns_of(STATISTICS)


def identical_note(names: Sequence[str]) -> str:
    """Why pooled target and other change are one number in these runs."""
    return (
        f"{', '.join(names)}: pooled target and other are one number by construction, since all "
        "classes are counted from one edit; read the rows per class."
    )


def best_row(rows: Sequence[Row], key: str = "macro_selectivity") -> tuple[int, str] | None:
    """The cell with the largest value, where it is one of several and above zero."""
    values = [row.get(key) or 0.0 for row in rows]
    top = max(values, default=0.0)
    return (values.index(top), key) if len(rows) > 1 and top > 0 else None


LENGTHS: dict[str, Collection[str]] = {
    "edit ratio: its length by the residual's.": {"edit_ratio"},
    "off manifold: how many of the clean patches lie nearer to their mean than edited ones (of "
    "clean ones: half).": {"off_manifold"},
}
ABSENT = (
    "Label protocol: the latent of a class that an image lacks is not set there; what it would "
    "change is measured by --protocol class (absent_change)."
)
MEASURED = {
    "necessity": "pooled share of the classes' patches that change class without their latents",
    "sufficiency": "pooled share of all other patches that become the class whose latent is set in "
    "them",
}


def measure_notes(report: Report) -> list[str]:
    """What a run measured beside changes, in words, with its interval where there is one."""
    found = []
    for key, meaning in MEASURED.items():
        if key in report.extra:
            ends = [report.extra.get(f"{key}_{end}") for end in ("lo", "hi")]
            between = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
            found.append(f"{key}: {report.extra[key]:.3f}{between}, {meaning}.")
    return found


def summary_table(
    reports: Mapping[str, Report], title: str = "Results", notes: Sequence[str] = ()
) -> Table:
    """One row per run, named by the keys; what all runs share goes into the notes."""
    rows = [_summary_row(name, report) for name, report in reports.items()]
    same = [name for name, report in reports.items() if not report.is_pooled_telling]
    columns = present((NAME, *_scale(rows), *METRICS), rows)
    thin = {c.key for c in columns if any(is_thin(row, c.key) for row in rows)}
    return Table(
        title,
        columns,
        tuple(rows),
        notes=(
            *_shared(list(reports.values())),
            *interval_notes(rows, [column.key for column in columns]),
            *by_run({name: _exclusions(report) for name, report in reports.items()}),
            *overlaps([(name, report.extra) for name, report in reports.items()]),
            *((identical_note(same),) if same else ()),
            *_curves(reports),
            *by_run({name: measure_notes(report) for name, report in reports.items()}),
            *notes,
        ),
        best=best_row(rows),
        about={**LENGTHS, thin_note(rows): thin},
    )


def _summary_row(name: str, report: Report) -> Row:
    metrics = report.metrics()
    n_units = report.extra.get("n_groups", report.n_images)
    whole = {f"{m.key}_n_images": int(n_units) for m in RUNS if m.has_interval}
    unit = {"unit": "groups"} if "n_groups" in report.extra else {}
    return {"run": name, "method": report.method, **unit, **whole, **metrics}


def _shared(reports: Sequence[Report]) -> list[str]:
    if not reports:
        return []
    first = reports[0]
    protocols = ", ".join(dict.fromkeys(report.protocol for report in reports))
    classes = n_classes_text([len(report.class_results) for report in reports], first.n_asked)
    return [
        f"Protocol {protocols}, {first.n_images} images, {classes}. macro: mean over classes; "
        "pooled: over patches.",
        *_sample(reports),
        *([ABSENT] if "label" in protocols else []),
        *(LENGTHS if any("off_manifold" in report.extra for report in reports) else []),
    ]


def _sample(reports: Sequence[Report]) -> list[str]:
    """That classes were run on a sample of the images without them."""
    shares = [report.extra["run_share"] for report in reports if "run_share" in report.extra]
    if not shares:
        return []
    return [
        "Each class was run on all images with it and on a sample of the others (--other-images), "
        f"{max(shares):.0%} in all; [ ] knows."
    ]


def _exclusions(report: Report) -> list[str]:
    """Which classes are left out of macro means, in a line where there are any."""
    return list(filter(None, [exclusions(report)]))


def _curves(reports: Mapping[str, Report]) -> list[str]:
    """One sentence per method with several scales."""
    found = {
        report.method: curve_note(name.split(" x")[0], report.extra)
        for name, report in reports.items()
        if "curve_end" in report.extra
    }
    return list(found.values())


def present(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns that some row has a value for."""
    return tuple(c for c in columns if any(row.get(c.key) not in (None, "") for row in rows))


def _scale(rows: Sequence[Row]) -> tuple[Column, ...]:
    """The column of scales, where rows are of several."""
    return (SCALE,) if len({row.get("scale") for row in rows}) > 1 else ()


def class_table(rows: Sequence[Row], title: str = "Classes", notes: Sequence[str] = ()) -> Table:
    """One row per class, from class_results.csv."""
    columns = present((CLASS, *_scale(rows), *CLASS_COLUMNS[1:]), rows)
    found = interval_notes(rows, [column.key for column in columns], CLASS.key)
    return Table(title, columns, tuple(rows), (*notes, *found), best=None)


def by_selectivity(rows: Sequence[Row], least: int = 0) -> list[Row]:
    """The classes by falling selectivity; then those with fewer than `least` predicted patches,
    and those without a selectivity last."""
    nothing = -2.0  # below all
    return sorted(
        rows,
        key=lambda row: (
            row["n_orig_patches"] < least,
            -(nothing if row.get("selectivity") is None else row["selectivity"]),
            row["class_id"],
        ),
    )


def extremes_table(
    rows: Sequence[Row],
    min_patches: int = 0,
    n: int = 5,
    which: str = "",
    notes: Sequence[str] = (),
) -> Table:
    """The `n` most and least selective classes with at least `min_patches` predicted patches.

    `which` names the run where there are several.
    """
    ranked = by_selectivity([row for row in rows if row["n_orig_patches"] >= max(1, min_patches)])
    few = [row["n_orig_patches"] for row in rows if row["n_orig_patches"] < max(1, min_patches)]
    placed = [{"place": place, **row} for place, row in enumerate(ranked, 1)]
    shown = placed if len(placed) <= 2 * n else placed[:n] + placed[-n:]
    all_shown = len(shown) == len(placed)
    title = "Classes by selectivity" if all_shown else f"{n} most and least selective classes"
    columns = present(CLASS_COLUMNS, shown)
    return Table(
        title + (f" of {which}" if which else ""),
        (Column("place", "#", "count"), *_beside_choice(columns)),
        tuple(shown),
        notes=(
            *interval_notes(shown, [c.key for c in columns], CLASS.key, is_below=True),
            *_not_ranked(few, min_patches),
            *notes,
        ),
    )


def _beside_choice(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns without numbers of patches where a choice needs their room."""
    hidden = {"n_orig_patches", "n_changed_patches"}
    is_told = any(column.key == "stability" for column in columns)
    return tuple(column for column in columns if not (is_told and column.key in hidden))


def _not_ranked(few: Sequence[int], min_patches: int) -> list[str]:
    """How many classes stay out, from their numbers of patches, in the words of `exclusions`."""
    n_never = sum(n == 0 for n in few)
    counts = {NEVER: n_never, with_few(min_patches): len(few) - n_never}
    said = ", ".join(f"{n} {why}" for why, n in counts.items() if n)
    return [f"Not ranked: {said}."] if said else []


def lookup_table(
    rows: Sequence[Row],
    title: str = "Latents by class",
    *,
    candidates: bool = False,
    asked: Sequence[str] = (),
) -> Table:
    """The latent chosen for each class, from lookup.csv; with `candidates`, the others too.

    `asked` names the classes that were to get one: those that did not are named.
    """
    shown = [row for row in rows if candidates or row.get("chosen", 1)]
    shown = [{**row, "latent": _latent(row)} for row in shown]
    tried = any(row.get("selectivity") is not None for row in shown)
    hidden = {*(() if candidates else ("rank",)), *(("precision", "recall") if tried else ())}
    columns = tuple(c for c in present(LOOKUP_COLUMNS, shown) if c.key not in hidden)
    if has_others := any(not row.get("chosen", 1) for row in shown):
        at = [column.key for column in columns].index("latent") + 1
        columns = (*columns[:at], CHOSEN, *columns[at:])
    named = [row["class_name"] for row in shown if row["latent"] is not None]
    none = [name for name in asked or [row["class_name"] for row in shown] if name not in named]
    notes = (f"{len(none)} without a latent ({listed(none)}).",) if none else ()
    notes = ("*: the latent that is chosen.", *notes) if has_others else notes
    return Table(
        title, columns, tuple(shown), notes=(*notes, *choice_notes(rows)), strong=_flagged(shown)
    )


def _flagged(rows: Sequence[Row]) -> frozenset[tuple[int, str]]:
    """The cells of latents that are chosen for several classes or fire on most."""
    several = of_several(rows)
    return frozenset(
        (number, "latent")
        for number, row in enumerate(rows)
        if row.get("latent") in several or is_broad(row)
    )


def _latent(row: Row) -> int | None:
    latent = row.get("latent")
    return None if latent is None or latent < 0 else latent


def sweep_table(rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """One row per head of a sweep, each at its best epoch, from sweep.csv."""
    return Table(
        "Heads", SWEEP_COLUMNS, tuple(rows), notes=tuple(notes), best=best_row(rows, "miou")
    )


def stats_table(row: Row, notes: Sequence[str] = ()) -> Table:
    """An autoencoder on a dataset: one row."""
    return Table("Statistics", STATS_COLUMNS, (row,), notes=tuple(notes))
