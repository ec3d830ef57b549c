"""The runs of methods: what is known before they begin, and what they leave in their folders."""

from collections.abc import Mapping, Sequence
from typing import Any

from semseg_cli.commands.recording import Planned, dataset_meta, settings_of
from semseg_cli.experiment.choose_latents import is_manual
from semseg_cli.experiment.result_files import write_outcome, write_stats
from semseg_cli.experiment.run import Outcome
from semseg_cli.experiment.session import Session
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.latent_choice import LatentChoice, Selection
from semseg_cli.settings.methods import Method
from semseg_cli.show.tables import plain_number


def datasets_of(
    session: Session, methods: Sequence[Method], reused: Mapping[str, Reused]
) -> list[dict[str, Any]]:
    """The images that runs depend on, those that a lookup was chosen on among them, as run.json
    has them; each once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    own = [one for method in methods for one in _own_datasets(session, method)]
    given = [one.dataset for one in reused.values() if one.dataset]
    for one in (*own, *given):
        found.setdefault((one["role"], one["digest"]), one)
    return list(found.values())


def _own_datasets(session: Session, method: Method) -> list[dict[str, Any]]:
    computes = method.needs_statistics and session.is_missing_stats
    used = [dataset_meta(session.dataset, "evaluation")]
    if method.looks_up or computes or method.n_more_passes:
        used.append(dataset_meta(session.lookup_dataset, "lookup"))
    return used


def planned_runs(
    setup: Setup, method: Method, reused: Mapping[str, Reused], run_name: str | None = None
) -> list[Planned]:
    """A method's runs, one per scale; `run_name` is what they are called (default: as they are)."""
    return [_planned(setup, method, scale, reused, run_name) for scale in method.scale]


def _planned(
    setup: Setup, method: Method, scale: float, reused: Mapping[str, Reused], named: str | None
) -> Planned:
    by_hand = is_manual(method, reused)
    run_name = named or method.run_name(is_manual=by_hand)
    settings = method.at(scale)
    if method.fixed_scale is not None:
        scale = method.fixed_scale
    elif not named or len(method.scale) > 1:
        run_name += f" {method.scale_name(plain_number(scale))}"
    meta = {
        "kind": "intervention",
        "command": method.command,
        "method": method.called(is_manual=by_hand),
        "scale": scale,
        "run_name": run_name,
    }
    return Planned(meta, settings_of(setup, settings, without=_unused(method)))


def _unused(method: Method) -> list[str]:
    """The options on choosing latents, where nothing is chosen."""
    if not method.needs_latents:
        return [entry.key for entry in entries(LatentChoice)]
    return [entry.key for entry in entries(Selection)] if method.lookup is not None else []


def write_run(folder: RunFolder, method: Method, outcome: Outcome) -> None:
    """All result files of a run, and the digest of the SAE whose latents it has."""
    write_outcome(folder, outcome, outcome.session.dataset)
    write_stats(folder, outcome.session.pipeline)
    if method.has_other_latents:
        digest = outcome.session.pipeline.sae.digest
        folder.update(digests={**folder.meta["digests"], "sae": digest})
