"""Which classes have no latent, why, and which option may find one."""

import logging
import math
from collections.abc import Collection, Sequence

from semseg_cli.engine.detections import Detections, rank_latents
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.runs.lookup_csv import LookupRow

log = logging.getLogger("semseg_cli")
MOST_NAMED = 5


def warn_of_no_latent(
    detections: Detections,
    stats: SaeStats,
    class_names: Sequence[str],
    wanted: Collection[int],
    rows: Sequence[LookupRow],
    label_threshold: float,
    max_freq: float,
    *,
    is_subset: bool,
) -> None:
    """Logs a warning for each reason why some of the wanted classes have no row; `is_subset` says
    that the lookup split has more images than were looked at."""
    lacking = sorted(set(wanted) - {row.class_id for row in rows})
    if not lacking:
        return
    n_clean = detections.n.tolist()
    has_clean = any(n_clean[c] for c in lacking)
    every = rank_latents(detections, stats, class_names, math.inf, top_k=1) if has_clean else []
    detected = {row.class_id for row in every}
    more = " or more --lookup-images" if is_subset else ""
    said = {
        "no patch of the lookup split has the class on at least "
        f"{label_threshold:.4g} of its pixels (try a smaller --label-threshold{more}).": [
            c for c in lacking if not n_clean[c]
        ],
        f"only latents fire on it that fire on {max_freq:g} or more of all patches (try a larger "
        "--max-freq).": [c for c in lacking if c in detected],
        f"no latent fires on its clean patches{' (try more --lookup-images)' * is_subset}.": [
            c for c in lacking if n_clean[c] and c not in detected
        ],
    }
    for why, ids in said.items():
        if ids:
            log.warning("%s", f"{_named([class_names[c - 1] for c in ids])} no latent: {why}")


def _named(names: Sequence[str]) -> str:
    """The first names with their verb."""
    more = ", ..." if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'has' if len(names) == 1 else 'have'}"
