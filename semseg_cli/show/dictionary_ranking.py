"""Autoencoders side by side: one row each, and what the test tells of their order."""

from collections.abc import Sequence

from semseg_cli.runs.dictionaries import GIVEN, Dictionary, Ranking
from semseg_cli.runs.folder import SPLICE_FILE, RunFolder
from semseg_cli.runs.metrics import DICTIONARIES
from semseg_cli.runs.outcomes import are_as_long
from semseg_cli.runs.rows import read_rows
from semseg_cli.show.run_notes import listed
from semseg_cli.show.run_tables import columns_of, present
from semseg_cli.show.tables import Column, Table

DICTIONARY = Column("dictionary", "SAE", "text", elastic=True)
RANK = Column("rank", "rank", "text")
COLUMNS = (DICTIONARY, RANK, *(c for c in columns_of(DICTIONARIES) if c.key != "rank"))


def ranking_table(ranking: Ranking, title: str = "Dictionaries") -> Table:
    """One row per autoencoder; those that nothing is better than stand out."""
    rows = ranking.rows
    first = ranking.first
    is_alone = len(first) == 1 < len(rows)
    return Table(
        title,
        present(COLUMNS, rows),
        tuple(rows),
        notes=(verdict(ranking), *_notes(ranking)),
        best=(first[0], "score") if is_alone else None,
        strong=frozenset() if is_alone else frozenset((i, "rank") for i in first),
    )


def label(one: Dictionary, every: Sequence[Dictionary]) -> str:
    """A dictionary's name, with its layer where there are several."""
    has_layers = len({other.layer for other in every}) > 1
    return f"{one.name} of layer {one.layer}" if has_layers else one.name


def verdict(ranking: Ranking) -> str:
    """The sentence that a ranking comes to."""
    every, first = ranking.dictionaries, ranking.first
    names = [label(every[i], every) for i in first]
    nulls = [i for i in first if every[i].null_sae != GIVEN]
    if len(every) == 1:
        return "One dictionary alone has no rank."
    if all(p is None for p in ranking.p_values.values()):
        reason = next(iter(ranking.differences.values())).test.reason
        return f"Nothing is ranked: no test between any two dictionaries ({reason})."
    if len(first) > 1:
        told = " Null SAEs are among them." if nulls and len(nulls) < len(first) else ""
        return f"The test does not tell the first apart: {listed(names)} share the rank.{told}"
    if nulls:
        return f"A null SAE is first: {names[0]} scores higher than all others, by the test."
    return f"{names[0]} is first: the test tells it from all others."


def _notes(ranking: Ranking) -> list[str]:
    rows = ranking.rows
    n_scored, few = len(ranking.class_ids), [r for r in rows if r["n_latents"] < r["n_scored"]]
    noun = "class" if n_scored == 1 else "classes"
    found = [
        f"beyond peers: the classes' score (target minus other change) less that of matched peers "
        f"of the same dictionary, mean over {n_scored} {noun}. rank: 1 and how many are better by "
        "the test, corrected over all pairs (Holm); = where several have it. p to nulls: the "
        "largest against the null SAEs of the layer.",
    ]
    found += _lengths([r["edit_ratio"] for r in rows if r["edit_ratio"] is not None])
    if few:
        told = [f"{row['dictionary']} ({row['n_latents']})" for row in few]
        found.append(f"Scored classes without a latent count as 0; with one: {listed(told)}.")
    if reasons := dict.fromkeys(row.get("score_reason") for row in rows if row.get("score_reason")):
        found += [f"No interval of a score: {reason}." for reason in reasons]
    return found + _lost(ranking)


def _lengths(ratios: Sequence[float]) -> list[str]:
    """How long the edits are, and whether all are as long."""
    if len(ratios) < 2:
        return []
    ends = dict.fromkeys(f"{end:.2f}" for end in (min(ratios), max(ratios)))
    matched = "matched" if are_as_long(ratios) else "not matched"
    return [
        f"Edits are {matched} in length, on average over classes: {' to '.join(ends)} of the "
        "residual's."
    ]


def _lost(ranking: Ranking) -> list[str]:
    """The classes that the reconstructions of the given dictionaries lose."""
    found = []
    for one in ranking.dictionaries:
        names = lost_classes(one.folder)
        if names and one.null_sae == GIVEN:
            found.append(
                f"{label(one, ranking.dictionaries)} cannot explain {listed(names)}: its "
                "reconstruction loses most of their patches."
            )
    return found


def lost_classes(folder: RunFolder) -> list[str]:
    """The classes most of whose patches the reconstruction does not keep."""
    rows = read_rows(folder.path / SPLICE_FILE)
    return [str(row["class_name"]) for row in rows if row.get("lost")]
