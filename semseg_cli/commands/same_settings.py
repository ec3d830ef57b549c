"""Whether all ranks were given the same settings; where they differ, which."""

import json
from typing import Any

from semseg_cli.errors import UsageError
from semseg_cli.ranks import group as ranks
from semseg_cli.settings.base import Settings
from semseg_cli.settings.entries import entries, flatten
from semseg_cli.settings.output import Shown

OF_A_MACHINE = frozenset(
    {"batch_size", "memory_budget", "n_workers", "cache_dir", "no_cache", "cache_limit"}
)
OF_THE_LEAD = frozenset(entry.name for entry in entries(Shown)) - {"dry_run"}


def require_same_settings(*parts: Settings) -> None:
    """Refuses settings other than those of rank 0, but for those that change no result.

    Files may be elsewhere on another machine: of them it counts here whether they are given.
    What is in them is compared once they are read.

    Raises:
        UsageError: some differ; it names them.
    """
    own = _compared(parts)
    leads = json.loads(ranks.from_lead("settings", lambda: json.dumps(own).encode()))
    differing = sorted(f for f in {**own, **leads} if own.get(f) != leads.get(f))
    if differing:
        raise UsageError(
            f"Settings differ from those of rank 0 ({', '.join(differing)}): give all ranks the "
            "same options, config files and environment variables."
        )


def _compared(parts: tuple[Settings, ...]) -> dict[str, Any]:
    found = {}
    for part in parts:
        given = flatten(part)
        for entry in entries(type(part)):
            if entry.name not in OF_A_MACHINE | OF_THE_LEAD:
                is_file = entry.field.metadata["path"]
                found[entry.flag] = entry.key in given if is_file else given.get(entry.key)
    return found
