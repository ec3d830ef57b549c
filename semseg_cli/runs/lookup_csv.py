"""The table of latents per class, and its CSV file. No torch in here."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.files import expanded
from semseg_cli.readers import MOST_DIGITS, parse_csv, read_text, unreadable
from semseg_cli.runs.field_types import shortened
from semseg_cli.runs.folder import LOOKUP_FILE
from semseg_cli.runs.rows import TEXTS, csv_text, numbered, parse_number


@dataclass(frozen=True)
class LookupRow:
    """One candidate latent of one class: `rank`, by F1, says how well it detects the class, and
    `drives` how much its edit would change the class alone to first order, where that was
    measured; both from 1.

    `threshold` is the activation above which the latent counts as active, `threshold_share` that
    as a share of `maximum`, the latent's largest activation. `n_patches` is the class's clean
    patches on the lookup split, `frequency` the latent's firing frequency, `class_share` the share
    of classes with clean patches on at least 1% of which it is active. `stability` is the share of
    resamplings of the training images in which it is chosen; a chosen one has its class's
    `runner_up`. The last four are the effect of the latent's own edit on `n_tried` of the selection
    images, where a causal rule measured it.
    """

    class_id: int
    class_name: str
    rank: int
    latent: int
    chosen: bool
    threshold: float
    threshold_share: float | None
    f1: float
    precision: float
    recall: float
    iou: float
    n_patches: int
    frequency: float
    maximum: float
    class_share: float | None = None
    stability: float | None = None
    runner_up: int | None = None
    drives: int | None = None
    target_change: float | None = None
    other_change: float | None = None
    selectivity: float | None = None
    n_tried: int | None = None

    def to_row(self) -> dict[str, Any]:
        """The row for a CSV file."""
        return {**asdict(self), "chosen": int(self.chosen)}


COLUMNS = [f.name for f in fields(LookupRow)]
CHOSEN = {"1": True, "true": True, "0": False, "false": False}
EXPECTED = "a lookup needs the columns latent, and class_id or class_name"


def lookup_text(rows: Iterable[LookupRow]) -> str:
    """The text of lookup.csv."""
    return csv_text((row.to_row() for row in rows), COLUMNS)


@dataclass(frozen=True)
class Reused:
    """A lookup made before: its CSV, what is known of the images and the SAE it was made with, and
    whether a user wrote it rather than a run."""

    text: str
    dataset: dict[str, Any] | None = None
    sae_digest: str | None = None
    is_manual: bool = False

    def to_json(self) -> bytes:
        """For the other ranks."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Reused":
        """From `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Member:
    """One latent of a class's group; the scale is multiplied by its coefficient."""

    latent: int
    coefficient: float = 1.0


def chosen_latents(rows: Iterable[LookupRow]) -> dict[int, list[Member]]:
    """Class id -> its chosen latents, which are set together."""
    groups: dict[int, list[Member]] = {}
    for row in rows:
        if row.chosen:
            groups.setdefault(row.class_id, []).append(Member(row.latent))
    return groups


def read_lookup(
    text: str, class_names: Sequence[str], d_sae: int, source: str
) -> dict[int, list[Member]]:
    """Class id -> the latents that are set together, from the text of a lookup CSV.

    Needs the columns `latent` and `class_id` or `class_name`; several rows of a class make a group.
    A column `coefficient` multiplies the scale; where there is a column `chosen`, only rows that
    say 1 count; other columns are for the reader.

    Raises:
        SemsegError: a class is unknown, a latent is out of range or named twice for a class.
    """
    rows = parse_csv(text, source, EXPECTED, ("latent",))
    if rows and not {"class_id", "class_name"} & set(rows[0]):
        raise unreadable(source, "it has neither class_id nor class_name", EXPECTED)
    groups: dict[int, list[Member]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"The lookup {source}, row {line}"
        if not _is_chosen(row, where):
            continue
        class_id = _class_id(row, class_names, where)
        member = Member(_latent(row, d_sae, where), _coefficient(row, where))
        group = groups.setdefault(class_id, [])
        if any(one.latent == member.latent for one in group):
            name = class_names[class_id - 1]
            raise SemsegError(f"{where}: latent {member.latent} is there twice for {name}.")
        group.append(member)
    if not groups:
        raise SemsegError(f"The lookup {source} names no latent: is it a lookup.csv?")
    return groups


def with_coefficients(
    text: str, class_names: Sequence[str], groups: Mapping[int, Sequence[Member]]
) -> str:
    """The text of a lookup with the coefficients of these latents, which are its chosen ones."""
    rows: list[dict[str, Any]] = []
    for row in parse_csv(text, "The lookup", EXPECTED):
        members = groups.get(_class_id(row, class_names, "The lookup"), ())
        found = {str(one.latent): one.coefficient for one in members}
        is_chosen = _is_chosen(row, "The lookup")
        rows.append({**row, "coefficient": found.get(row["latent"].strip()) if is_chosen else None})
    return csv_text(rows)


def read_next_best(text: str, class_names: Sequence[str]) -> dict[int, list[Member]]:
    """Class id -> as many latents as are chosen for it, the next best by the rule that chose them.

    From the text of a lookup.csv that a run wrote: by selectivity where a causal rule measured it,
    those first that were tried on more images, else by rank. Classes with fewer candidates than
    twice the chosen ones have what there is.

    Raises:
        SemsegError: the table does not say which of several candidates is chosen.
    """
    table = parse_csv(text, "The lookup", EXPECTED)
    if not table or not {"class_id", "latent", "rank", "chosen"} <= set(table[0]):
        raise SemsegError(
            "The lookup lists no candidates beside the chosen latents (columns rank and chosen): "
            "give the lookup.csv of a run, or leave --lookup out."
        )
    rows: dict[int, list[dict[str, str]]] = {}
    for number, row in enumerate(table, start=2):
        _check_candidate(row, f"The lookup, row {number}")
        rows.setdefault(_class_id(row, class_names, "The lookup"), []).append(row)
    found = {}
    for class_id, candidates in rows.items():
        left = [row for row in candidates if not _is_chosen(row, "The lookup")]
        left.sort(key=_as_chosen)
        kept = left[: len(candidates) - len(left)]
        if kept:
            found[class_id] = [Member(int(row["latent"])) for row in kept]
    return found


def _as_chosen(row: dict[str, str]) -> tuple[int, float, int]:
    """What a row's place in the choice goes by; less is better."""
    effect = float(row.get("selectivity") or 0.0)
    return -int(row.get("n_tried") or 0), -effect, int(row["rank"])


def read_lookup_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's lookup.csv, numbers as numbers; none where there is no such file.

    Raises:
        FileError: it is no lookup, or a column of ours holds text for a number.
    """
    if not path.exists():
        return []
    rows = numbered(parse_csv(lookup_from_path(str(path)), str(path), EXPECTED, ("latent",)))
    for number, row in enumerate(rows, start=2):
        for name in COLUMNS:
            if name not in TEXTS and isinstance(row.get(name), str):
                reason = f"row {number} has {name} = {shortened(row[name])}"
                raise unreadable(str(path), reason, EXPECTED)
    return rows


def _is_chosen(row: dict[str, str], where: str) -> bool:
    said = row.get("chosen", "1").strip()
    if said.lower() not in CHOSEN:
        raise SemsegError(f"{where}: chosen is {said!r}, expected 1 or 0.")
    return CHOSEN[said.lower()]


def _check_candidate(row: dict[str, str], where: str) -> None:
    """Refuses a row that cannot be ranked."""
    for name in ("latent", "rank"):
        if not row[name].isdecimal() or len(row[name]) > MOST_DIGITS:
            raise SemsegError(f"{where}: {name} is {shortened(row[name])}, expected a number.")
    for name in ("selectivity", "n_tried"):
        said = row.get(name) or "0"
        if not isinstance(parse_number(said), int | float):
            raise SemsegError(f"{where}: {name} is {shortened(said)}, expected a number.")


def _coefficient(row: dict[str, Any], where: str) -> float:
    raw = (row.get("coefficient") or "").strip()
    try:
        value = float(raw) if raw else 1.0
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SemsegError(f"{where}: coefficient {shortened(raw)} is no finite number.")
    return value


def _class_id(row: dict[str, Any], class_names: Sequence[str], where: str) -> int:
    name, raw = ((row.get(key) or "").strip() for key in ("class_name", "class_id"))
    if name:
        same = [i for i, one in enumerate(class_names, start=1) if one.strip() == name]
        if not same:
            raise SemsegError(f"{where}: the class {name!r} is not in the dataset.")
        return next((i for i in same if str(i) == raw), same[0])  # two may have one name
    if not raw.isdecimal() or len(raw) > MOST_DIGITS or not 1 <= int(raw) <= len(class_names):
        raise SemsegError(
            f"{where}: class id {shortened(raw)} is not one of 1 to {len(class_names)}."
        )
    return int(raw)


def _latent(row: dict[str, Any], d_sae: int, where: str) -> int:
    raw = (row.get("latent") or "").strip()
    if not raw.isdecimal() or len(raw) > MOST_DIGITS or int(raw) >= d_sae:
        raise SemsegError(f"{where}: latent {shortened(raw)} is not one of 0 to {d_sae - 1}.")
    return int(raw)


def is_lookup_path(source: str) -> bool:
    """Whether a lookup is named by a path, not as a run of a store."""
    path = expanded(source)
    return path.exists() or path.suffix == ".csv" or "/" in source


def lookup_from_path(source: str) -> str:
    """The text of a lookup file, or of lookup.csv in a run folder.

    Raises:
        SemsegError: there is no such file, or it cannot be read.
    """
    path = expanded(source)
    path = path / LOOKUP_FILE if path.is_dir() else path
    return read_text(path, f"The lookup {path}", "give a lookup.csv or a run folder that has one")
