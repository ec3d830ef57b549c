"""The settings in which runs differ, of those that change a result. No torch, no mlflow."""

from collections.abc import Sequence
from dataclasses import fields

from semseg_cli.settings.base import Settings
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Compute, Setup
from semseg_cli.settings.output import Output
from semseg_cli.show.run_notes import listed
from semseg_cli.show.tables import cell
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

LONGEST = 20  # setting that stands among numbers
MOST_SPELLED = 2  # settings whose values a caption has


def _option_names(*groups: type[Settings]) -> set[str]:
    both = [(f.name, f.metadata.get("flag")) for group in groups for f in fields(group)]
    return {name for pair in both for name in pair if name}


HARMLESS = _option_names(Output, Compute) - {"dtype"}
# Those that a run has without a word: what is not given is a value too (all images, no groups).
UNSAID = {entry.key for entry in entries(Setup) if entry.field.default is None} - HARMLESS


def differing(runs: Sequence[TrackedRun]) -> list[str]:
    """The settings that two of the runs have with different values.

    Those in which runs of one method differ come first: names tell methods apart, but not these.
    Settings that change no result are left out, and a setting that only some methods have is no
    difference by itself.
    """
    found = [n for n in all_settings(runs) if n not in HARMLESS and len(_values(runs, n)) > 1]
    return sorted(found, key=lambda name: name not in _within(runs, found))


def all_settings(runs: Sequence[TrackedRun]) -> list[str]:
    """The names of all settings that some run has."""
    return list(dict.fromkeys(name for run in runs for name in run.params))


def _within(runs: Sequence[TrackedRun], names: Sequence[str]) -> list[str]:
    """Those of these settings in which two runs of one method differ."""
    by_method: dict[str | None, list[TrackedRun]] = {}
    for run in runs:
        by_method.setdefault(run.tag("method"), []).append(run)
    return [n for n in names if any(len(_values(one, n)) > 1 for one in by_method.values())]


def _values(runs: Sequence[TrackedRun], name: str) -> set[int | float | str | None]:
    return {setting_of(run, name) for run in runs if name in UNSAID or name in run.params}


def settings_notes(
    runs: Sequence[TrackedRun], names: Sequence[str], hidden: Sequence[str], where: str = ""
) -> list[str]:
    """In what the runs, called by these names, differ beside what is shown, `hidden` in the order
    of `differing`: the first settings with their values; `where` says where the others are."""
    told = hidden[:MOST_SPELLED]
    said = [f"{one.replace('_', '-')}: {_spelled(runs, names, one)}." for one in told]
    if rest := [one.replace("_", "-") for one in hidden[MOST_SPELLED:]]:
        said.append(f"Also different{where}: {listed(rest, 6)}.")
    return [" ".join(said)] if said else []


def _spelled(runs: Sequence[TrackedRun], names: Sequence[str], setting: str) -> str:
    """Which runs have which value, but for the commonest: `0.1 in A, else 0.5`."""
    who: dict[str, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        if setting not in UNSAID and setting not in run.params:
            continue
        value = cell(setting_of(run, setting), "setting")
        who.setdefault("none" if value == "-" else value, []).append(name)
    is_told = len({shortened(value) for value in who}) == len(who)
    shown = {value: shortened(value) if is_told else value for value in who}
    commonest = max(who, key=lambda value: len(who[value]))
    rarer = [f"{shown[v]} in {listed(of, 2)}" for v, of in who.items() if v != commonest]
    return "; ".join([*rarer[:3], *["..."] * (len(rarer) > 3)]) + f"; else {shown[commonest]}"


def shortened(text: str) -> str:
    """A setting by its end, where it is a long path."""
    return text if len(text) <= LONGEST else f"...{text[3 - LONGEST :]}"
