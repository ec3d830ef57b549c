"""What a run folder says of its run: settings, metrics, where its latents were chosen."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from semseg_cli.readers import read_toml, unreadable
from semseg_cli.runs.field_types import holds
from semseg_cli.runs.folder import (
    LOG_FILE,
    LOOKUP_FILE,
    METRICS_FILE,
    REPORT_FILE,
    SETTINGS_FILE,
    RunFolder,
)

ON_EVALUATION = (
    "Latents were chosen on the very split that they are evaluated on: expect too good numbers."
)


def params_of(folder: RunFolder) -> dict[str, str]:
    """The settings of a run by option name; lists are joined, nested tables are dotted."""
    path = folder.path / SETTINGS_FILE
    if not path.exists():
        return {}
    return dict(_flat(read_toml(path, str(path), "expected the settings of a run")))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", text_of(value)


def text_of(value: Any) -> str:
    """A value as parameters and tags hold it: lists joined, true and false in small letters."""
    if isinstance(value, list):
        return ", ".join(text_of(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def metrics_of(folder: RunFolder) -> dict[str, float]:
    """The scalars of a run's report, or of its metrics.json; none for a run with neither."""
    if (folder.path / REPORT_FILE).exists():
        return folder.report().metrics()
    if not (folder.path / METRICS_FILE).exists():
        return {}
    metrics: dict[str, float] = folder.read_json(METRICS_FILE)
    if not holds(metrics, dict[str, float | int]):
        raise unreadable(str(folder.path / METRICS_FILE), "no numbers by name", "expected those")
    return metrics


def notes_of(folder: RunFolder) -> list[str]:
    """What to know before reading a run's numbers: where its latents were chosen, and what
    run.json notes of its images and its draws."""
    found = [ON_EVALUATION] if is_chosen_on_evaluation(folder) else []
    return [*found, *(folder.meta.get("notes") or [])]


def cautions_of(folder: RunFolder) -> list[str]:
    """The notes of a run, then what its log warns of."""
    return list(dict.fromkeys([*notes_of(folder), *warnings_of(folder)]))


def warnings_of(folder: RunFolder) -> list[str]:
    """What the run's log warns of, each once."""
    path = folder.path / LOG_FILE
    lines = path.read_text("utf-8", errors="replace") if path.exists() else ""
    entries = re.split(r"^\d{4}-\d\d-\d\d [\d:,]+ (?=[A-Z]+ )", lines, flags=re.MULTILINE)
    said = [" ".join(e.split()[1:]) for e in entries if e.startswith("WARNING ")]
    return list(dict.fromkeys(said))


def choice_over(folder: RunFolder) -> list[str]:
    """What the numbers of a run's choice of latents are over; nothing where another run made it."""
    found = [one for one in folder.meta["datasets"] if one["role"] == "lookup"]
    if not found or "n_images" not in found[0]:
        return []
    return [
        f"Over {found[0]['n_images']} images of the {found[0]['split']} split. above: from which "
        "share of its maximum a latent counts as firing; patches: at least "
        f"{params_of(folder).get('label_threshold')} of whose pixels have the label."
    ]


def null_sae_of(folder: RunFolder) -> str:
    """Which null SAE took the place of the given one; "none" where none did."""
    return params_of(folder).get("control", "none")


def is_chosen_on_evaluation(folder: RunFolder) -> bool:
    """Whether a run's latents were chosen on the split that they are evaluated on."""
    by_role = {one["role"]: (one["root"], one["split"]) for one in folder.meta["datasets"]}
    used = (folder.path / LOOKUP_FILE).exists() and "lookup" in by_role
    return used and by_role["lookup"] == by_role.get("evaluation")
