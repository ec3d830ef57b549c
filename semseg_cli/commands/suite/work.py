"""What a suite has to do, and which of its runs are there already."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from semseg_cli import __version__
from semseg_cli.commands.journals import NO_RESULT
from semseg_cli.commands.method_runs import planned_runs
from semseg_cli.commands.recording import dataset_meta, settings_of
from semseg_cli.experiment.samples import with_draws
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae.statistics import digest_of
from semseg_cli.progress import Progress
from semseg_cli.runs.calibration import alone
from semseg_cli.runs.folder import RunFolder, run_folders
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Shown
from semseg_cli.settings.suite import Nulls, Suite

TAG = "suite"
LATER = "LOOKUP"  # stands for the lookup of a suite in a plan


@dataclass(frozen=True)
class Work:
    """A suite that is about to run: `key` names it, by all that its numbers depend on."""

    suite: Suite
    setup: Setup
    output: Shown
    store: str | None
    session: Session
    nulls: Nulls
    key: str
    given: Mapping[str, Reused]  # the user's lookup

    @property
    def class_ids(self) -> list[int]:
        """The classes to intervene on."""
        return self.session.classes_of(self.session.dataset)

    def n_null_tails(self, n_saes: int) -> int:
        """How many edited images the nulls of so many autoencoders take, at most."""
        n_images, n_classes = len(self.session.dataset), len(self.class_ids)
        n_shared = (self.nulls.peers + 2 * n_classes) * min(
            n_images, self.nulls.peer_images or n_images
        )
        n_each = min(n_images, self.nulls.matched_images)
        return n_saes * (n_shared + n_classes * n_each * (self.nulls.matched + 1))


def make_work(
    session: Session,
    suite: Suite,
    output: Shown,
    store: str | None,
    given: Mapping[str, Reused],
    progress: Progress,
) -> Work:
    """The work of one autoencoder, with its statistics complete."""
    session.complete(progress)
    nulls = suite.nulls(alone(len(session.classes_of(session.dataset))))
    key = suite_key(session.setup, suite, nulls, session, given)
    tagged = replace(output, tags=(*output.tags, f"{TAG}={key}"))
    return Work(suite, session.setup, tagged, store, session, nulls, key, given)


def suite_key(
    setup: Setup, suite: Suite, nulls: Nulls, session: Session, given: Mapping[str, Reused]
) -> str:
    """The name of a suite: the same for the same settings, models, images and version only."""
    settings = {k: v for k, v in settings_of(setup, suite).items() if k not in NO_RESULT}
    pipeline = session.pipeline
    parts: list[Any] = [
        __version__,
        settings,
        asdict(nulls),
        [part.digest for part in (pipeline.vit, pipeline.sae, pipeline.head) if part is not None],
        [session.dataset.digest, session.lookup_dataset.digest],
        digest_of(session.given_stats),
        [one.text for one in given.values()],
    ]
    return blake2b(
        json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=6
    ).hexdigest()


def meta_of_suite(output: Shown) -> dict[str, Any]:
    """What run.json says of the suite's own run."""
    name = output.run_name or "suite"
    return {"kind": "suite", "command": "suite", "method": "suite", "run_name": name}


def datasets_of_suite(session: Session) -> list[dict[str, Any]]:
    """The images that a suite judges and chooses on, as run.json has them."""
    return [
        dataset_meta(session.dataset, "evaluation"),
        dataset_meta(session.lookup_dataset, "lookup"),
    ]


def finished_runs(dump_to: Path, key: str) -> dict[str, RunFolder]:
    """The finished runs of a suite by name, the newest of each."""
    return {
        meta["run_name"]: folder
        for folder, meta in run_folders(dump_to)
        if meta["tags"].get(TAG) == key and meta["status"] == "FINISHED"
    }


def lookup_in(work: Work, done: Mapping[str, RunFolder]) -> str | None:
    """The lookup that the suite uses, where there is one already."""
    chosen = done.get(f"lookup {work.suite.select}")
    return work.suite.lookup or (str(chosen.path) if chosen else None)


def names_of(work: Work, method: Method, reused: Mapping[str, Reused]) -> list[str]:
    """The names of a method's runs."""
    return [one.meta["run_name"] for one in planned_runs(work.setup, method, reused)]


def missing(
    work: Work,
    methods: Sequence[Method],
    reused: Mapping[str, Reused],
    done: Mapping[str, RunFolder],
) -> list[Method]:
    """The methods of which some run is not there; a curve is run as one."""
    drawn = [with_draws(work.session, method) for method in methods]
    return [m for m in drawn if not set(names_of(work, m, reused)) <= done.keys()]
