"""The life of a run: its folder, its log, how it ends, and the tracking store."""

import logging
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

from semseg_cli import __version__, tracking
from semseg_cli.commands.doctor.findings import copy_findings
from semseg_cli.data.dataset import Dataset
from semseg_cli.data.held import IN_MEMORY
from semseg_cli.errors import LostWorkerError, SemsegError, StoreError, found_lost
from semseg_cli.experiment.session import Session
from semseg_cli.files import cannot_write
from semseg_cli.interrupts import Terminated, bereft, held, released, settle, was_asked
from semseg_cli.progress import passing, stage
from semseg_cli.ranks.ending import explained
from semseg_cli.ranks.group import n_ranks
from semseg_cli.runs.folder import (
    JOURNAL_FILE,
    LOG_FILE,
    SETTINGS_FILE,
    RunFolder,
    make_run_folder,
)
from semseg_cli.settings.base import Settings
from semseg_cli.settings.command_line import command_line
from semseg_cli.settings.entries import flatten
from semseg_cli.settings.output import Recorded, Shown
from semseg_cli.show.console import say, unlogged_warnings
from semseg_cli.tracking.store_address import public

log = logging.getLogger("semseg_cli")
_untracked: dict[Path, str] = {}  # why a store lacks finished runs of this process


Advice = Callable[[Sequence[RunFolder]], str]


def no_advice(_folders: Sequence[RunFolder]) -> str:
    """Nothing to say of stopped runs."""
    return ""


@dataclass(frozen=True)
class Planned:
    """A run that is about to begin: its own entries of run.json, and the settings to repeat it."""

    meta: Mapping[str, Any]
    settings: Mapping[str, Any]


def settings_of(*parts: Settings, without: Sequence[str] = ()) -> dict[str, Any]:
    """The options that repeat a run through --config, but for those that it does not use."""
    values: dict[str, Any] = {}
    for part in parts:
        values |= flatten(part)
    return {key: value for key, value in values.items() if key not in without}


def shared_meta(
    session: Session, output: Recorded, datasets: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What run.json says of every run of one command."""
    pipeline = session.pipeline
    digests = {"sae": pipeline.sae.digest, "vit": pipeline.vit.digest}
    if pipeline.head is not None:
        digests["head"] = pipeline.head.digest
    return meta_of(output, datasets, digests)


def meta_of(
    output: Recorded, datasets: Sequence[Mapping[str, Any]], digests: Mapping[str, str]
) -> dict[str, Any]:
    """What run.json says of every run made of these datasets and models."""
    return {
        "experiment": output.experiment_name,
        "mlflow_experiment_id": output.experiment_id,
        "artifact_root": output.artifact_root,
        "sweep_id": secrets.token_hex(6),
        "tags": dict(tag.split("=", 1) for tag in output.tags),
        "datasets": list(datasets),
        "digests": dict(digests),
        "class_metrics": isinstance(output, Shown) and output.log_class_metrics,
        "system_metrics": output.system_metrics,
    }


def dataset_meta(dataset: Dataset, role: str) -> dict[str, Any]:
    """What run.json says of a dataset."""
    return {
        "role": role,
        "name": dataset.title,
        "root": str(dataset.root if dataset.layout == IN_MEMORY else dataset.root.absolute()),
        "split": dataset.split,
        "digest": dataset.digest,
        "n_images": len(dataset),
        "layout": dataset.layout,
        "skipped": [{"image": one.name, "reason": one.reason} for one in dataset.skipped],
    }


@contextmanager
def recorded(
    planned: Sequence[Planned],
    shared: Mapping[str, Any],
    output: Recorded,
    store: str | None,
    stopped: Sequence[RunFolder] = (),
    advice: Advice = no_advice,
) -> Iterator[list[RunFolder]]:
    """Runs a block as these runs, in new folders: logs into them, marks how they end, tracks them.

    Where `stopped` has their folders, they go on in these. `advice` says how to go on with what was
    stopped.

    Ctrl-C and SIGTERM end them as KILLED, any other exception as FAILED, in the folder and in the
    store; it goes on its way. A signal interrupts the block, but not what is noted of it. What the
    store does not take is no failure of the block: `require_tracked` tells it.
    """
    folders: list[RunFolder] = []
    handlers: list[logging.Handler] = []
    with held(), passing(logging.INFO, log.name):  # a notebook may have a level of its own
        try:
            if stopped:
                _resume(folders, handlers, stopped)
            else:
                _begin(folders, handlers, planned, shared, output)
            _log_heading(shared)
            if store is not None:
                (tracking.restart if stopped else tracking.start)(store, folders)
            with _system_metrics(folders[0]), released():
                yield folders
            _end(folders, "FINISHED", None, handlers)
            for folder in folders:
                folder.remove(JOURNAL_FILE)
        except BaseException as caught:
            with bereft():
                error = _stop(caught, folders, handlers, store, advice, quiet=output.quiet)
            if error is not caught:
                raise error from caught
            raise
        if store is not None:
            _finish(folders)


def _begin(
    folders: list[RunFolder],
    handlers: list[logging.Handler],
    planned: Sequence[Planned],
    shared: Mapping[str, Any],
    output: Recorded,
) -> None:
    """Makes the folders, with what is known before anything is computed."""
    for one in planned:
        folders.append(make_run_folder(output.dump_to, {**shared, **one.meta}))
        folders[-1].write(SETTINGS_FILE, tomli_w.dumps(dict(one.settings)).encode())
        copy_findings(folders[-1], shared["digests"], one.settings)
        handlers.append(_log_into(folders[-1].path / LOG_FILE))


def _resume(
    folders: list[RunFolder], handlers: list[logging.Handler], stopped: Sequence[RunFolder]
) -> None:
    """Takes up the folders of stopped runs."""
    for folder in stopped:
        folders.append(folder)
        handlers.append(_log_into(folder.path / LOG_FILE))
        folder.go_on()


def _log_heading(shared: Mapping[str, Any]) -> None:
    typed = " ".join(public(word) for word in sys.argv[1:])
    log.info("semseg-cli %s, torch %s: %s", __version__, torch.__version__, typed)
    if n_ranks() > 1:
        log.info("rank 0 of %d: what follows counts its own images", n_ranks())
    for dataset in shared["datasets"]:
        for bad in dataset.get("skipped", []):
            log.info("skipped %s of %s: %s", bad["image"], dataset["split"], bad["reason"])


def _stop(
    caught: BaseException,
    folders: Sequence[RunFolder],
    handlers: Sequence[logging.Handler],
    store: str | None,
    advice: Advice,
    *,
    quiet: bool,
) -> BaseException:
    """Marks runs that have not finished, in the store too; the error that is the reason."""
    kind = was_asked()  # what a signal interrupts may make another error of it
    settle(is_final=n_ranks() > 1)
    error = explained(caught)
    if not isinstance(error, SemsegError | KeyboardInterrupt):
        error = kind() if kind is not None else found_lost(error) or error
    reason = _reason(error)
    status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    log.error("%s: %s", status, reason)
    _end(folders, status, reason, handlers)
    if store is not None:
        track(folders)  # the error that ended the runs is the one to show
    if status == "KILLED" and folders:
        kept = "\n".join(str(folder.path) for folder in folders)
        said = f"Stopped ({reason}): the run is marked as KILLED in\n{kept}"
        say(f"{said}\n{advice(folders)}".rstrip(), quiet=quiet)
    elif isinstance(error, LostWorkerError) and folders and (how := advice(folders)):
        say(how, quiet=quiet)
    return error


def _finish(folders: Sequence[RunFolder]) -> None:
    """Sends finished runs to the store; a user may have enough of waiting for it."""
    try:
        _untracked.update(track(folders))
    except KeyboardInterrupt:
        settle()
        paths = [folder.path for folder in folders if not folder.meta["uploaded"]]
        command = command_line("upload", *paths)
        say(f"Stopped: the results are whole; finish tracking with `{command}`.")
        raise


def _system_metrics(folder: RunFolder) -> AbstractContextManager[None]:
    """Tracks what the machine does as the first run of a command, where that is asked for."""
    asked = folder.meta.get("system_metrics") and folder.meta["mlflow_run_id"]
    return tracking.system_metrics(folder) if asked else nullcontext()


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    return str(error) or type(error).__name__


def _log_into(path: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "--dump-to") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for record in unlogged_warnings():
        handler.handle(record)
    log.addHandler(handler)
    return handler


def _end(
    folders: Sequence[RunFolder],
    status: str,
    reason: str | None,
    handlers: Sequence[logging.Handler],
) -> None:
    """Marks how runs have ended; those that have finished stay so."""
    log.info("ended: %s", status)
    for handler in handlers:
        log.removeHandler(handler)
        with suppress(OSError):  # a full disk: the log's last lines are lost, the run is not
            handler.close()
    for folder in folders:
        try:
            if folder.meta["status"] != "FINISHED":
                folder.mark(status, reason)
        except SemsegError:
            if status == "FINISHED":
                raise
            log.error("%s could not be marked as %s", folder.path, status)


def track(folders: Sequence[RunFolder]) -> dict[Path, str]:
    """Sends folders to the store; a sentence for each that it did not take."""
    errors = {}
    patience = tracking.patience_for(folders)  # for all: a store that hangs is waited for once
    for folder in folders:
        try:
            with stage(f"Sending {folder.path.name} to the tracking store"):
                tracking.log_folder(folder, patience)
        except SemsegError as error:
            log.error("%s", error)
            errors[folder.path] = str(error)
    return errors


def require_tracked(folders: Sequence[RunFolder]) -> None:
    """Raises a StoreError where the store lacks a finished run: its folder can be uploaded."""
    errors = [_untracked[one.path] for one in folders if one.path in _untracked]
    if errors:
        raise StoreError(" ".join(errors))
