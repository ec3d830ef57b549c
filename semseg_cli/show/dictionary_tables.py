"""What a dictionary does by itself: its reconstruction in place of the residual, its groups."""

from collections.abc import Sequence

from semseg_cli.runs.contents import ON_EVALUATION
from semseg_cli.runs.metrics import GROUPS, SPLICED_CLASSES, SPLICES
from semseg_cli.runs.rows import Row
from semseg_cli.show.run_notes import interval_notes, listed
from semseg_cli.show.run_tables import CLASS, columns_of, present
from semseg_cli.show.tables import Column, Table

SPLICE_COLUMNS = (Column("dictionary", "dictionary", "text"), *columns_of(SPLICES))
SPLICED_CLASS_COLUMNS = (CLASS, *columns_of(SPLICED_CLASSES))
GROUP_COLUMNS = (
    CLASS,
    Column("kind", "kind", "text"),
    Column("latents", "latents", "text"),
    *columns_of(GROUPS),
)


def splice_table(rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """Reconstructions in place of the residual: one row per dictionary."""
    title = "Reconstruction in place of the residual"
    return Table(title, present(SPLICE_COLUMNS, rows), tuple(rows), notes=tuple(notes))


def spliced_class_table(rows: Sequence[Row]) -> Table:
    """One row per class, from splice.csv; lost ones stand out."""
    columns = present(SPLICED_CLASS_COLUMNS, rows)
    lost = [str(row["class_name"]) for row in rows if row.get("lost")]
    notes = interval_notes(rows, [column.key for column in columns], CLASS.key)
    if lost:
        notes = [*notes, f"Lost, so that no latent can explain them: {listed(lost)}."]
    cells = frozenset((i, "kept") for i, row in enumerate(rows) if row.get("lost"))
    return Table("Classes", columns, tuple(rows), notes=tuple(notes), strong=cells)


def groups_table(rows: Sequence[Row], split: str, *, is_choosing: bool = False) -> Table:
    """One row per class, from groups.csv; `is_choosing`: they were grown on the same split."""
    of_class: dict[int, list[Row]] = {}
    for row in rows:
        of_class.setdefault(row["class_id"], []).append(row)
    shown = [
        {**own[0], "latents": " + ".join(str(row["latent"]) for row in own)}
        for own in of_class.values()
    ]
    columns = present(GROUP_COLUMNS, shown)
    notes = (
        "The smallest groups that reach 90% of the target change of the best one, which was grown "
        f"on the selection images; judged on the {split} split. one, split: by one latent or by "
        "several; absent: target minus other change is below 0.5.",
        *interval_notes(shown, [column.key for column in columns], CLASS.key),
        *((ON_EVALUATION,) if is_choosing else ()),
    )
    return Table("Groups of latents", columns, tuple(shown), notes=notes)
