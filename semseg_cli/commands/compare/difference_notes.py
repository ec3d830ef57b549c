"""What is said of differences: what is subtracted from what, which test, why there is none."""

import re
from collections.abc import Mapping, Sequence

from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.inference.paired import N_FLIPS
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import listed
from semseg_cli.tracking.tracked_run import TrackedRun

COMPARED = "macro_selectivity"
MARKS = {"*": "*: p <= .05, and 0 outside [ ]", "(*)": "(*): p <= .05 alone"}
IN_WORDS = {
    "flip": f"{N_FLIPS:,} random swaps of both runs by {{}}",
    "swap": f"{N_FLIPS:,} random swaps of run and draw by class",
    "t: draws and images": "t over draws and {}s",
    "two-way t: classes and images": "t over classes and {}s",
}
WIDER = {  # what an interval of a difference is over
    "t: draws and images": "over other draws too, so wider",
    "two-way t: classes and images": "over other draws too, so wider",
    "MOVER and jackknife": "over the {}s under both",
}


def differences(chosen: Candidates, rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """What is subtracted from what, which test, and where there is no p."""
    if not {f"{COMPARED}_difference", f"{COMPARED}_p_adjusted", f"{COMPARED}_p"} & set(keys):
        return []
    pairs: dict[str, list[str]] = {}
    for row in rows:
        if row.get(f"{COMPARED}_difference") is not None:
            pairs.setdefault(row["baseline_run_id"], []).append(row["run"])
    if not pairs:
        return []
    runs = {run.run_id: run for run in (*chosen.shown, *chosen.baselines.values())}
    against = _baselines({_called(runs[one]): who for one, who in pairs.items()})
    return [
        f"vs {chosen.baseline}: macro selectivity minus that of {against}, same images"
        f"{_wider(rows)}.",
        *tests(rows, [COMPARED], _corrected(rows)),
        *between(rows),
        *untested(rows, [f"{COMPARED}_p_reason"]),
    ]


def _wider(rows: Sequence[Row]) -> str:
    """What the intervals of differences are over."""
    key, unit = f"{COMPARED}_difference", _unit(rows)
    found = dict.fromkeys(r[f"{key}_method"] for r in rows if r.get(f"{key}_lo") is not None)
    said = " or ".join(dict.fromkeys(WIDER[one].format(unit) for one in found if one in WIDER))
    return f"; its [ ] is {said}" if said else ""


def _baselines(found: Mapping[str, Sequence[str]]) -> str:
    """How the one baseline is called; of several how many there are, and which runs have which."""
    if len(found) == 1:
        return next(iter(found))
    said = [
        f"{one} for {', '.join(who) if len(who) <= 2 else f'{len(who)} runs'}"
        for one, who in found.items()
    ]
    more = "; ..." if len(said) > 2 else ""
    return f"the nearest of {len(found)} baselines ({'; '.join(said[:2])}{more})"


def _unit(rows: Sequence[Row]) -> str:
    return "group" if any(row.get("unit") for row in rows) else "image"


def compared_with(chosen: Candidates, names: Sequence[str]) -> list[str]:
    """Which baseline each run has, where it is another run than itself."""
    found: dict[str, list[str]] = {}
    for run, name in zip(chosen.shown, names, strict=True):
        baseline = chosen.baselines.get(run.run_id)
        if baseline is not None and baseline.run_id != run.run_id:
            found.setdefault(_called(baseline), []).append(name)
    return [f"Compared to {_baselines(found)}."] if found else []


def _called(run: TrackedRun) -> str:
    """A baseline by its name, what tells its folder from others, and its seed."""
    seed = run.params.get("seed")
    return f"{run.name} (run {run.short_id}{f', seed {seed}' if seed is not None else ''})"


def _corrected(rows: Sequence[Row]) -> str:
    n_tests = sum(row.get(f"{COMPARED}_p") is not None for row in rows)
    return f"Holm over {n_tests} runs" if n_tests > 1 else "one test"


def tests(rows: Sequence[Row], keys: Sequence[str], corrected: str) -> list[str]:
    """The tests that gave these differences their p, in words, and over how many."""
    unit = _unit(rows)
    found = dict.fromkeys(
        row[f"{key}_p_method"] for key in keys for row in rows if row.get(f"{key}_p") is not None
    )
    if not found:
        return []
    said = "; ".join(IN_WORDS.get(one, one).format(unit) for one in found)
    marks = {row.get(f"{key}_difference_mark") for key in keys for row in rows}
    told = "; ".join(text for mark, text in MARKS.items() if mark in marks)
    return [f"p: {said}; {corrected}.{f' {told}.' if told else ''}"]


def between(rows: Sequence[Row]) -> list[str]:
    """Which differences are between dictionaries or places, and which are of unlike lengths."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.get("between"):
            found.setdefault(row["between"], []).append(row["run"])
    notes = [
        f"{listed(who)}: another {what} than the baseline's; the difference is between these "
        f"{'places' if 'SAE' not in what else 'dictionaries'}, as they are, on other images."
        for what, who in found.items()
    ]
    told = [r for r in rows if r.get("unmatched") and r.get(f"{COMPARED}_p") is not None]
    if not told:
        return notes
    apart = listed([f"{row['run']} {row['unmatched']}" for row in told])
    remedy = " auto-feat --match norm makes edits of one length." if found else ""
    return [*notes, f"Another length is another dose: {apart}.{remedy}"]


def without_lengths(why: str) -> str:
    """A reason without the lengths of edits, which each row has its own of (column edit norm)."""
    return re.sub(r" [(][^ ]+ vs [^ ]+[)]$", "", str(why))


def untested(
    rows: Sequence[Row], keys: Sequence[str], first: str = "run", what: str = ""
) -> list[str]:
    """Why differences have no p, each rule once; `keys` are those of the reasons, `first` that of
    the rows' names, of which `what` says what they are of."""
    found: dict[str, dict[str, list[str]]] = {}
    for key in dict.fromkeys(keys):
        for row in rows:
            if why := row.get(key):
                rule = without_lengths(why).split(": ")[0]
                found.setdefault(rule, {}).setdefault(str(why), []).append(row[first])
    notes = []
    for rule, reasons in found.items():
        who = list(dict.fromkeys(name for names in reasons.values() for name in names))
        why = next(iter(reasons)) if len(reasons) == 1 else rule
        notes.append(f"No p for {what}{listed(who)}: {why}.")
    return notes
