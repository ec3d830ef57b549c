"""Which dictionary a run edits: an SAE, or the null SAE in its place, and where it reads.

No torch, no mlflow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from semseg_cli.settings.methods import METHODS
from semseg_cli.tracking.tracked_run import TrackedRun

MOST_RUNS = 10_000  # that are looked at more than once
OF_DIRECTIONS = {method.command for method in METHODS if not method.edits_latents}


@dataclass(frozen=True)
class Dictionary:
    """An SAE by its digest and file, the null SAE that took its place, and the place it reads."""

    digest: str | None
    file: str
    null: str  # '' for the SAE itself
    layer: str | None
    site: str | None

    @property
    def path(self) -> tuple[str, ...]:
        """The parts of the file's path."""
        return PurePosixPath(self.file.replace("\\", "/")).parts


@lru_cache(maxsize=MOST_RUNS)
def dictionary_of(run: TrackedRun) -> Dictionary:
    """What the run says of its dictionary."""
    null = run.params.get("control", "none")
    return Dictionary(
        run.tag("digest.sae"),
        run.params.get("sae_ckpt", ""),
        "" if null == "none" else null,
        run.params.get("vit_layer"),
        run.params.get("vit_site"),
    )


def edits_latents(run: TrackedRun) -> bool:
    """Whether a run edits latents; a direction owes an SAE its length at most."""
    return run.tag("method") not in OF_DIRECTIONS


def places_apart(one: TrackedRun, other: TrackedRun) -> list[str]:
    """In what the places of two runs differ: layer, site; nothing where one does not say it."""
    a, b = dictionary_of(one), dictionary_of(other)
    pairs = {"layer": (a.layer, b.layer), "site": (a.site, b.site)}
    return [name for name, (x, y) in pairs.items() if x != y and None not in (x, y)]


def dictionaries_apart(one: TrackedRun, other: TrackedRun) -> list[str]:
    """In what the dictionaries of two runs differ; of a direction the place alone counts."""
    a, b = dictionary_of(one), dictionary_of(other)
    is_sae = edits_latents(one) and edits_latents(other)
    is_other = is_sae and (a.digest, a.null) != (b.digest, b.null)
    return ["SAE"] * is_other + places_apart(one, other)


def dictionary_names(runs: Sequence[TrackedRun]) -> dict[str, str]:
    """By run id what to call its dictionary, as long as it takes to tell those of the runs apart;
    none where all runs have the same."""
    found = {run.run_id: dictionary_of(run) for run in runs}
    kinds = {(d.digest, d.null, d.layer, d.site) for d in found.values()}
    if len(kinds) < 2:
        return {}
    saes = _sae_names(list(found.values()))
    layers, sites = ({getattr(d, name) for d in found.values()} for name in ("layer", "site"))
    return {
        run_id: ", ".join(
            [
                saes[d] + (f" ({d.null} null)" if d.null else ""),
                *([f"layer {d.layer or '?'}"] if len(layers) > 1 else []),
                *([d.site or "site not said"] if len(sites) > 1 else []),
            ]
        )
        for run_id, d in found.items()
    }


def _sae_names(found: Sequence[Dictionary]) -> dict[Dictionary, str]:
    """The ends of the files' paths that tell SAEs apart; of one file that has changed, digests."""
    longest = max(len(d.path) for d in found)
    for n in range(1, longest + 1):
        names = {d: "/".join(d.path[-n:]) or (d.digest or "SAE")[:8] for d in found}
        if _tells(found, names.__getitem__):
            return names
    return {d: f"{d.path[-1] if d.path else 'SAE'} {(d.digest or '?')[:8]}" for d in found}


def _tells(found: Sequence[Dictionary], name: Callable[[Dictionary], str]) -> bool:
    """Whether given SAEs have names of their own; a null SAE is called after the one it is of."""
    given = {(name(d), d.digest) for d in found if not d.null}
    return len({called for called, _ in given}) == len(given)
