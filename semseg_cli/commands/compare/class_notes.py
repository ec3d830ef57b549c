"""What must be said about the classes of runs, below their table."""

from collections.abc import Sequence

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.difference_notes import compared_with, untested, without_lengths
from semseg_cli.commands.compare.notes import MORE, demo, dictionaries, excluded, warnings
from semseg_cli.commands.compare.settings_apart import differing, settings_notes
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import interval_notes, listed
from semseg_cli.show.run_tables import CLASS


def class_captions(
    chosen: Candidates,
    rows: Sequence[Row],
    keys: Sequence[str],
    names: Sequence[str],
    artifacts: Artifacts,
    units: Units,
) -> list[str]:
    """All notes of a table of these columns, the most general first."""
    marks = {row.get(f"{key}_mark") for row in rows for key in keys}
    return [
        *demo(chosen.shown),
        *dictionaries(chosen.shown, names),
        *settings_notes(chosen.shown, names, differing(chosen.shown)),
        *compared_with(chosen, names),
        *interval_notes(rows, keys, CLASS.key),
        *_marked(chosen.baseline, marks),
        *_untested(rows, names),
        *warnings(chosen, names, artifacts),
        *excluded(chosen.shown, names, artifacts, units),
        *artifacts.notes(),
        *chosen.notes,
        MORE,
    ]


def _marked(baseline: str, marks: set[str | None]) -> list[str]:
    if not marks & {"*", "(*)"}:
        return []
    alone = "; (*): p alone" if "(*)" in marks else ""
    return [
        f"*: unlike {baseline}: p <= .05 over classes (Benjamini-Hochberg), 0 outside the "
        f"difference's interval{alone}."
    ]


def _untested(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """For which classes differences to baselines have no p, and why; each rule once."""
    if len(names) == 1:
        return untested(rows, ["selectivity_p_reason"], CLASS.key)
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        for row in rows:
            if why := row.get(f"{name}: selectivity_p_reason"):
                found.setdefault(without_lengths(why), {}).setdefault(name, []).append(
                    row[CLASS.key]
                )
    return [f"No p for {_where(who, len(rows))}: {why}." for why, who in found.items()]


def _where(who: dict[str, list[str]], n_classes: int) -> str:
    """Runs with the classes, where not all are meant."""
    said = [
        run + (f" in {listed(classes, 2)}" if len(classes) < n_classes else "")
        for run, classes in who.items()
    ]
    return listed(said, 2)
