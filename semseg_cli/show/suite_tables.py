"""What a suite comes to: its headline, one row per run, one row per class, and what to know."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from semseg_cli.runs.against import verdicts
from semseg_cli.runs.calibration import LEAST_DRIVE, LEAST_NEED, MOST_SPILL
from semseg_cli.runs.claims import headline_of, reach_note
from semseg_cli.runs.contents import is_chosen_on_evaluation, notes_of, null_sae_of
from semseg_cli.runs.dictionaries import Ranking, named, rank
from semseg_cli.runs.folder import CALIBRATION_FILE, GROUPS_FILE, RunFolder
from semseg_cli.runs.inference.answers import ALPHA
from semseg_cli.runs.metrics import CALIBRATION, RUNS, shown
from semseg_cli.runs.rows import Row, read_rows
from semseg_cli.show.dictionary_ranking import lost_classes
from semseg_cli.show.dictionary_tables import groups_table
from semseg_cli.show.run_notes import listed
from semseg_cli.show.run_tables import (
    CLASS,
    NAME,
    best_row,
    present,
    summary_table,
    to_column,
)
from semseg_cli.show.tables import Column, Table, plain_number
from semseg_cli.show.tiles import Tile, tiles_of

_OF_RUNS = {metric.key: metric for metric in RUNS}
COLUMNS = (
    NAME,
    *(
        to_column(_OF_RUNS[key])
        for key in (
            "macro_target_change",
            "macro_other_change",
            "macro_selectivity",
            "edit_norm",
            "edit_ratio",
            "off_manifold",
            "n_causal",
        )
    ),
)
NARROW = {"edit_ratio"}  # no room for it in 80 columns
CLASS_COLUMNS = (
    CLASS,
    *(to_column(metric) for metric in shown(CALIBRATION, "table")),
    Column("verdict", "claimed", "text", elastic=True),
)
QUESTION = "Is the latent of each class really, and only, about this class?"


@dataclass(frozen=True)
class Finished:
    """A suite's runs by name, in order; `own` is the one that claims are about. `left_out` has
    why a command was not run, `asked` how many nulls were asked for, by option, `lookup` the run
    that chose the latents, where the suite did."""

    runs: Mapping[str, RunFolder]
    own: str
    left_out: Mapping[str, str]
    asked: Mapping[str, int]
    lookup: RunFolder | None = None

    @property
    def own_folder(self) -> RunFolder:
        """The run that claims are about."""
        return self.runs[self.own]

    @cached_property
    def ranking(self) -> Ranking:
        """The latents among those of null SAEs."""
        claimed = [f for f in self.runs.values() if (f.path / CALIBRATION_FILE).exists()]
        return rank([named(folder) for folder in claimed])

    @property
    def classes(self) -> list[Row]:
        """The rows of calibration.csv."""
        return list(read_rows(self.own_folder.path / CALIBRATION_FILE))

    @property
    def numbers(self) -> dict[str, float]:
        """The metrics of the run that claims are about."""
        return self.own_folder.report().metrics()


def headline(suite: Finished) -> str:
    """The sentence that a suite comes to."""
    numbers = suite.numbers
    return headline_of(int(numbers["n_causal"]), int(numbers["n_judged"]))


def verdict_notes(suite: Finished) -> list[str]:
    """Which controls and baselines do better than the latents."""
    own = suite.own_folder.meta
    others = {
        name: folder
        for name, folder in suite.runs.items()
        if name != suite.own
        and folder.meta["command"] not in ("ablate", "insert")
        and folder.meta["method"] != own["method"]
    }
    # A null SAE is the same method on other latents: its run is a control, the curve is none.
    others |= {
        name: folder
        for name, folder in suite.runs.items()
        if folder.meta["method"] == own["method"] and null_sae_of(folder) != "none"
    }
    return verdicts(suite.own_folder, {n: others[n] for n in suite.runs if n in others})


def suite_table(suite: Finished, *, is_wide: bool = True) -> Table:
    """One row per run; the headline and what else the numbers say below."""
    reports = {name: folder.report() for name, folder in suite.runs.items()}
    base = summary_table(reports, "Suite")
    own = suite.own_folder
    notes = [
        *notes_of(own),
        *verdict_notes(suite),
        *_reach(suite),
        *(f"Not run: {name}. {why}" for name, why in suite.left_out.items()),
    ]
    columns = [c for c in present(COLUMNS, base.rows) if is_wide or c.key not in NARROW]
    return replace(
        base,
        columns=tuple(columns),
        notes=(headline(suite), *notes, *base.notes),
        best=best_row(base.rows),
    )


def _reach(suite: Finished) -> list[str]:
    """What so few nulls cannot show."""
    judged = [row for row in suite.classes if row["value"] is not None]
    options = {"peers_n": "--peers", "matched_n": "--matched-peers"}
    fewest = {
        option: min((int(row[key]) for row in judged), default=0) for key, option in options.items()
    }
    spent = [option for option, n in fewest.items() if n < suite.asked.get(option, 0)]
    note = reach_note(len(judged), fewest, spent)
    return [note] if note else []


def class_table(suite: Finished) -> Table:
    """One row per class: where its latent stands, and whether it is claimed."""
    lost = lost_classes(suite.own_folder)
    rows = [
        {**row, "verdict": f"{row['doubt'] or 'yes'}{', lost' * (row['class_name'] in lost)}"}
        for row in suite.classes
    ]
    rows.sort(key=lambda row: (-row["claimed"], row["value"] is None, -(row["value"] or 0.0)))
    judged = [row for row in rows if row["value"] is not None]
    own = suite.own_folder.report()
    few = [str(row["class_name"]) for row in rows if row["value"] is None]
    notes = [
        f"score: target minus other change, the latent set to "
        f"{plain_number(own.intervention_scale)} times its maximum, on the images that peers are "
        "tried on."
    ]
    if judged:
        first = judged[0]
        notes += [
            f"peers: {first['peers_n']} random live latents by the same rule (median and 95th "
            f"percentile of their scores); matched: {first['matched_n']} whose edit is as long as "
            "the class's own, patch by patch, on at most "
            f"{max(row['n_matched_images'] for row in judged)} images with the class.",
            "best other: highest score here of another class's latent. p: the larger one of both "
            f"nulls', corrected (FDR) over {len(judged)} classes; 1 where another check fails.",
            f"claimed: p at most {ALPHA:g}; score above best other; target change at least "
            f"{LEAST_DRIVE:.0%}; no other class changes {MOST_SPILL:.0%} as much; with the latent "
            f"at 0 at least {LEAST_NEED:.0%} change. Else what fails first.",
        ]
    if lost:
        notes.append(
            f"lost: the SAE's reconstruction keeps less than half of its patches, so no latent can "
            f"explain it: {listed(lost)}."
        )
    if few:
        notes.append(f"Too few predicted patches to judge: {listed(few)}.")
    if own.no_latent:
        notes.append(f"Without a latent: {listed(own.no_latent)}.")
    return Table("Classes among their nulls", CLASS_COLUMNS, tuple(rows), tuple(notes))


def group_tables(suite: Finished) -> list[Table]:
    """Each class's smallest group of latents; nothing where none were looked for."""
    path = suite.lookup.path / GROUPS_FILE if suite.lookup else None
    if path is None or not path.exists():
        return []
    own = suite.own_folder
    split = next(d["split"] for d in own.meta["datasets"] if d["role"] == "evaluation")
    return [groups_table(read_rows(path), split, is_choosing=is_chosen_on_evaluation(own))]


def missing_notes(suite: Finished) -> list[str]:
    """What the suite does not show."""
    report = suite.own_folder.report()
    numbers = suite.numbers
    found = [f"{name} was not run: {why}" for name, why in suite.left_out.items()]
    if report.no_latent:
        found.append(f"Classes without a latent: {', '.join(report.no_latent)}.")
    if few := [str(row["class_name"]) for row in suite.classes if row["value"] is None]:
        found.append(f"Classes with too few predicted patches to judge: {', '.join(few)}.")
    if "off_manifold" not in numbers:
        found.append("How far off the clean residuals edits lead: the lookup split is missing.")
    found += [*_reach(suite), *notes_of(suite.own_folder)]
    return [
        *found,
        "Claims hold for this transformer, head, layer and dataset, and for one seed of the nulls.",
        "Only the first check is a test. The others compare what these images show: a class close "
        "to a limit may lie beyond it on others.",
        "A claim says that the latent drives what the head predicts, not what the network would "
        "need to see the class, nor that the latent is the only one that does.",
    ]


def claims(suite: Finished) -> tuple[list[str], list[str]]:
    """The classes that are claimed, and those that are not, with the reason."""
    rows = suite.classes
    yes = [str(row["class_name"]) for row in rows if row["claimed"]]
    no = [f"{row['class_name']} ({row['doubt']})" for row in rows if not row["claimed"]]
    return yes, no


def tile_numbers(suite: Finished) -> list[Tile]:
    """The large numbers of the page."""
    numbers = suite.numbers
    claimed = f"{numbers['n_causal']:g} of {numbers['n_judged']:g}"
    found = [Tile("classes claimed", claimed, "", "of classes with a latent and enough patches")]
    own = suite.own_folder.report()
    found += tiles_of(numbers, own, ("macro_target_change", "macro_other_change"))
    for report in (folder.report() for folder in suite.runs.values()):
        found += tiles_of(report.extra, report, ("necessity", "sufficiency"))
    return found
