"""The runs of methods: what is known before they begin, and what they leave in their folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from semseg_cli.commands.journals import check_stopped, identity_of, keeping
from semseg_cli.commands.noted import doubts_about, notes_about
from semseg_cli.commands.recording import (
    Advice,
    Planned,
    dataset_meta,
    no_advice,
    recorded,
    settings_of,
    shared_meta,
)
from semseg_cli.experiment.choose_latents import check_method, is_manual
from semseg_cli.experiment.examples import add_examples
from semseg_cli.experiment.images import classes_of
from semseg_cli.experiment.result_files import write_outcome, write_stats
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.samples import image_groups, refuse_overlap, warn_of_seen
from semseg_cli.experiment.session import Session
from semseg_cli.experiment.top_images import add_latents
from semseg_cli.progress import Progress
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.latent_choice import LatentChoice, Selection
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Shown
from semseg_cli.show.run_pictures import add_all_pictures
from semseg_cli.show.tables import plain_number


@dataclass(frozen=True)
class Finished:
    """A run that is whole on the disk: its folder, its method, its outcome."""

    folder: RunFolder
    method: Method
    outcome: Outcome

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.folder.meta["run_name"])


def run_recorded(
    session: Session,
    methods: Sequence[Method],
    reused: Mapping[str, Reused],
    output: Shown,
    store: str | None,
    progress: Progress,
    stopped: Sequence[RunFolder] = (),
    advice: Advice = no_advice,
) -> list[Finished]:
    """Runs methods in one pass over the images, each scale in a folder of its own.

    Of several ranks only the lead has them. `reused` has every lookup that the methods name,
    `stopped` the folders of the same runs where they go on; for `advice` see `recorded`.

    Raises:
        SemsegError: a method does not fit the rest (found first), or an input is bad.
    """
    for method in methods:
        check_method(session, method, reused)
    image_groups(session)
    datasets = datasets_of(session, methods, reused)
    for method in methods:
        refuse_overlap(session, method)
    warn_of_seen(session)
    if not is_lead():
        run(session, methods, reused, progress)
        return []
    shared = {**shared_meta(session, output, datasets), "protocol": session.setup.protocol}
    planned = [
        one
        for method in methods
        for one in planned_runs(named_classes(session), method, reused, output.run_name)
    ]
    owners = [method for method in methods for _ in method.scale]
    identity = identity_of(session, planned, shared, reused)
    check_stopped(stopped, identity)
    with (
        recorded(planned, shared, output, store, stopped, advice) as folders,
        keeping(folders, identity) as journal,
    ):
        outcomes = run(session, methods, reused, progress, journal)
        made = [Finished(*one) for one in zip(folders, owners, outcomes, strict=True)]
        for one in made:
            write_run(one.folder, one.method, one.outcome)
        _draw(made, output)
    return made


def _draw(runs: Sequence[Finished], output: Shown) -> None:
    if output.no_plots:
        return
    if output.examples:
        for one in runs:
            add_examples(one.folder, one.outcome.session, one.outcome, output.examples)
    for _, of_method in groupby(runs, key=lambda one: id(one.method)):
        own = list(of_method)
        add_latents([one.folder for one in own], [one.outcome for one in own])
        add_all_pictures([one.folder for one in own])


def named_classes(session: Session) -> Setup:
    """The settings with the classes as the dataset calls them, each once and in its order."""
    setup, names = session.setup, session.dataset.class_names
    if not setup.classes:
        return setup
    return replace(setup, classes=tuple(names[i - 1] for i in classes_of(setup, names)))


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
    """All result files of a run, the digest of the SAE whose latents it has, and what there is to
    know of its numbers."""
    doubts = doubts_about(outcome.session, uses_sae=method.needs_statistics)
    folder.update(notes=notes_about(method, outcome), doubts=doubts)
    write_outcome(folder, outcome, outcome.session.dataset)
    write_stats(folder, outcome.session.pipeline)
    if method.has_other_latents:
        digest = outcome.session.pipeline.sae.digest
        folder.update(digests={**folder.meta["digests"], "sae": digest})
