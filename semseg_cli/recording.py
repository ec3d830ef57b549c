"""From outcomes to run folders and the tracking store; every end of a run is written down."""

import logging
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
import torch

from semseg_cli import __version__
from semseg_cli.config import Output, Settings
from semseg_cli.console import say
from semseg_cli.data import Dataset
from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.experiment import Outcome
from semseg_cli.flat import flatten
from semseg_cli.interrupts import Terminated, settle
from semseg_cli.runs import RunFolder, make_run_folder, now
from semseg_cli.session import Session

log = logging.getLogger("semseg_cli")
COUNTED = ("n_orig_patches", "n_changed_patches", "n_other_patches", "n_other_changed")


def open_folders(
    session: Session,
    output: Output,
    runs: Sequence[Mapping[str, Any]],
    datasets: Sequence[Mapping[str, Any]],
) -> list[RunFolder]:
    """One new folder per run; `runs` says what is different about each."""
    setup, pipeline = session.setup, session.pipeline
    shared = {
        "experiment": output.experiment,
        "sweep_id": secrets.token_hex(6),
        "tags": dict(tag.split("=", 1) for tag in output.tags),
        "datasets": list(datasets),
        "digests": {
            "sae": pipeline.sae.digest,
            "vit": pipeline.vit.digest,
            "head": pipeline.head.digest,
        },
        "protocol": setup.protocol,
    }
    return [make_run_folder(output.dump_to, {**shared, **run}) for run in runs]


def describe(dataset: Dataset, session: Session) -> dict[str, Any]:
    """What run.json says of a dataset."""
    return {
        "role": "evaluation" if dataset is session.dataset else "lookup",
        "name": dataset.root.name,
        "root": str(dataset.root.absolute()),
        "split": dataset.split,
        "digest": dataset.digest,
        "n_images": len(dataset),
    }


@contextmanager
def recorded(folders: Sequence[RunFolder], store: str | None) -> Iterator[None]:
    """Runs a block as these runs: logs into their folders, marks how they end, tracks them.

    Ctrl-C and SIGTERM end them as KILLED, any other exception as FAILED; it goes on its way. The
    folders are complete before anything is sent to the store.

    Raises:
        StoreError: the store failed; the folders are kept and can be uploaded.
    """
    from semseg_cli import tracking

    handlers = [_log_into(folder.path / "log.txt") for folder in folders]
    log.info("semseg-cli %s, torch %s: %s", __version__, torch.__version__, " ".join(sys.argv[1:]))
    try:
        if store is not None:
            tracking.start(store, folders)
        yield
    except BaseException as error:
        settle()
        is_killed = isinstance(error, KeyboardInterrupt)
        reason = _reason(error)
        log.error("%s: %s", "killed" if is_killed else "failed", reason)
        _end(folders, "KILLED" if is_killed else "FAILED", reason, handlers)
        if store is not None:
            track(folders)  # the error that ended the runs is the one to show
        if is_killed:
            kept = " and ".join(str(folder.path) for folder in folders)
            say(f"Stopped ({reason}): the run is marked as KILLED in {kept}.")
        raise
    _end(folders, "FINISHED", None, handlers)
    if store is not None:
        errors = track(folders)
        if errors:
            raise StoreError(" ".join(errors))


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    return str(error) or type(error).__name__


def _log_into(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    return handler


def _end(
    folders: Sequence[RunFolder],
    status: str,
    reason: str | None,
    handlers: Sequence[logging.Handler],
) -> None:
    log.info("ended: %s", status)
    for handler in handlers:
        log.removeHandler(handler)
        handler.close()
    for folder in folders:
        try:
            folder.update(status=status, reason=reason, ended=now())
        except SemsegError:
            if status == "FINISHED":
                raise
            log.error("%s could not be marked as %s", folder.path, status)


def track(folders: Sequence[RunFolder]) -> list[str]:
    """Sends folders to the store; one sentence for each that it did not take."""
    from semseg_cli import tracking

    errors = []
    for folder in folders:
        try:
            tracking.log_folder(folder)
        except StoreError as error:
            log.error("%s", error)
            errors.append(str(error))
    return errors


def write_settings(folder: RunFolder, *settings: Settings) -> None:
    """settings.toml: the options that repeat this run through --config."""
    values: dict[str, Any] = {}
    for part in settings:
        values |= flatten(part)
    folder.write("settings.toml", tomli_w.dumps(values).encode())


def write_outcome(folder: RunFolder, outcome: Outcome, dataset: Dataset) -> None:
    """All result files of one intervention."""
    folder.write_json("report.json", outcome.report.to_dict())
    rows = class_rows(outcome)
    folder.write("class_results.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    if outcome.lookup_csv is not None:
        folder.write("lookup.csv", outcome.lookup_csv.encode())
    folder.write("per_image.parquet", per_image_frame(outcome, dataset).to_parquet())
    folder.write("change_matrix.parquet", change_frame(outcome, dataset).to_parquet())
    if len(outcome.intervention.draws) > 1:
        folder.write("draws.csv", draws_frame(outcome).to_csv(index=False).encode())


def class_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One row per class, with its latent where it has one."""
    rows: list[dict[str, Any]] = [result.to_row() for result in outcome.report.class_results]
    latents = outcome.intervention.first.latents_by_class
    if latents and len(outcome.intervention.draws) == 1:
        named = {class_id: "+".join(map(str, group)) for class_id, group in latents.items()}
        rows = [{**row, "latent": named[row["class_id"]]} for row in rows]
    return rows


def per_image_frame(outcome: Outcome, dataset: Dataset) -> pd.DataFrame:
    """One row per image and class: the four counts."""
    counts = outcome.counts
    n_images, n_rows, _ = counts.per_image.shape
    flat = counts.per_image.reshape(n_images * n_rows, 4).numpy()
    images = [path.stem for path in dataset.images]
    return pd.DataFrame(
        {
            "image": pd.Categorical(np.repeat(images, n_rows), categories=images),
            "class_id": np.tile(counts.class_ids.numpy(), n_images),
            **{name: flat[:, column] for column, name in enumerate(COUNTED)},
        }
    )


def draws_frame(outcome: Outcome) -> pd.DataFrame:
    """One row per draw and class, and one per draw for all classes together (class id 0)."""
    per_draw = outcome.counts.per_draw.numpy()
    pooled = per_draw.sum(axis=1, keepdims=True)
    counts = np.concatenate([pooled, per_draw], axis=1)
    class_ids = np.concatenate([[0], outcome.counts.class_ids.numpy()])
    n_draws, n_rows, _ = counts.shape
    flat = counts.reshape(n_draws * n_rows, 4)
    return pd.DataFrame(
        {
            "draw": np.repeat(np.arange(n_draws), n_rows),
            "class_id": np.tile(class_ids, n_draws),
            **{name: flat[:, column] for column, name in enumerate(COUNTED)},
        }
    )


def change_frame(outcome: Outcome, dataset: Dataset) -> pd.DataFrame:
    """One row per class and class that some of its patches went to."""
    counts, names = outcome.counts, dataset.class_names
    rows, columns = counts.matrix.nonzero(as_tuple=True)
    origin = [int(counts.class_ids[row]) for row in rows]
    target = (columns + 1).tolist()
    return pd.DataFrame(
        {
            "class_id": origin,
            "class_name": [names[i - 1] for i in origin],
            "new_class_id": target,
            "new_class_name": [names[i - 1] for i in target],
            "n_patches": counts.matrix[rows, columns].tolist(),
        }
    )
