"""Runs into a store: started, filled from their folders, ended."""

import getpass
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from semseg_cli.errors import StoreError
from semseg_cli.runs.contents import metrics_of, params_of
from semseg_cli.runs.folder import RUN_FILE, SETTINGS_FILE, RunFolder
from semseg_cli.tracking import store_address
from semseg_cli.tracking.client import not_mlflow, open_client, probe, reporting
from semseg_cli.tracking.experiments import experiment_id_of, telling_of_artifacts
from semseg_cli.tracking.patience import Patience
from semseg_cli.tracking.tracked_run import (
    FINAL,
    TABLE,
    class_metrics_of,
    describe,
    files_of,
    milliseconds,
    table_for_ui,
    tags_of,
)

_MAX_PARAM, _MAX_TAG, _MAX_DIGEST = 6000, 8000, 36
_MAX_BATCH, _MAX_METRICS = 100, 800


def start(uri: str, folders: Sequence[RunFolder]) -> None:
    """Makes one MLflow run per folder and notes it in the folder's run.json.

    Under `mlflow run` the first folder takes the run that MLflow made (MLFLOW_RUN_ID, consumed
    here), and the others join its experiment.

    Raises:
        StoreError: the store refuses, or the experiment was deleted in it.
    """
    with reporting(uri):
        client = open_client(uri, write=True)
        given = os.environ.pop("MLFLOW_RUN_ID", None)
        attached = _attach(client, uri, given, folders[0]) if given else None
        for folder in folders[1:] if given else folders:
            _create(client, uri, folder, attached or folder.meta.get("mlflow_experiment_id"))
        _try_artifacts(client, folders[0])


def log_folder(folder: RunFolder, patience: Patience | None = None) -> None:
    """Stores everything that a run folder holds, ends its MLflow run, and marks it uploaded.

    Works for runs that failed half-way, and can be repeated after a failure. The store is waited
    for as long as `patience` lasts; by default as its files need.

    Raises:
        StoreError: the store did not take it; the folder is as it was and can be uploaded later.
    """
    meta = folder.meta
    uri, run_id = meta["tracking_uri"], meta["mlflow_run_id"]
    if meta["status"] not in FINAL:
        ended = datetime.fromtimestamp(_last_change(folder), UTC).isoformat(timespec="milliseconds")
        folder.update(status="KILLED", reason="The process ended without saying how.", ended=ended)
    later = f"{folder.path} is kept whole, store it later with `semseg-cli upload {folder.path}`"
    if run_id is None:
        raise StoreError(f"No run was started in a tracking store: {later}.")
    with reporting(uri, later):
        _send(open_client(uri, write=True, patience=patience or patience_for([folder])), folder)
    folder.update(uploaded=True)


def patience_for(folders: Sequence[RunFolder]) -> Patience:
    """How long to wait for a store that is sent these folders."""
    return Patience(sum(path.stat().st_size for one in folders for path, _ in files_of(one)))


def upload(folder: RunFolder, uri: str | None = None) -> None:
    """Stores a run whose logging failed or never began: continues its MLflow run or makes one.

    The store is `uri`, else the one of the folder, else the default one. Start and end times are
    those of the folder.
    """
    meta = folder.meta
    target = store_address.resolve_uri(uri or meta["tracking_uri"])
    probe(target)
    with reporting(target):
        client = open_client(target, write=True)
        is_same = store_address.public(meta["tracking_uri"] or "") == target
        known = meta["mlflow_run_id"] if is_same else None
        if known is None or not _is_active(client, known):
            _create(client, target, folder, None)
    log_folder(folder)


def run_link(folder: RunFolder) -> str | None:
    """The page of the folder's run on its tracking server; None for stores without one."""
    meta = folder.meta
    uri, run_id = meta["tracking_uri"] or "", meta["mlflow_run_id"]
    if not uri.startswith("http") or run_id is None:
        return None
    return f"{store_address.public(uri)}/#/experiments/{meta['mlflow_experiment_id']}/runs/{run_id}"


def _try_artifacts(client: Any, folder: RunFolder) -> None:
    """Stores the settings of the run, which are known: what cannot be stored is told in time."""
    settings = folder.path / SETTINGS_FILE
    if settings.exists():
        run_id = folder.meta["mlflow_run_id"]
        with telling_of_artifacts(
            folder.meta["experiment"], client.get_run(run_id).info.artifact_uri
        ):
            client.log_artifact(run_id, str(settings))


def _attach(client: Any, uri: str, run_id: str, folder: RunFolder) -> str:
    experiment_id = client.get_run(run_id).info.experiment_id
    name = client.get_experiment(experiment_id).name
    _tag(client, run_id, tags_of(folder))
    _note(folder, uri, run_id, experiment_id, name)
    return str(experiment_id)


def _create(client: Any, uri: str, folder: RunFolder, experiment_id: str | None) -> None:
    meta = folder.meta
    if experiment_id is None:
        experiment_id = experiment_id_of(client, uri, meta["experiment"], meta.get("artifact_root"))
    source = {
        "mlflow.source.name": f"semseg-cli {meta['command']}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": meta["git_commit"],
        "mlflow.user": _user(),
    }
    tags = {**tags_of(folder), **{name: value for name, value in source.items() if value}}
    run = client.create_run(
        experiment_id,
        start_time=milliseconds(meta["created"]),
        tags={name: value[:_MAX_TAG] for name, value in tags.items()},
        run_name=meta["run_name"],
    )
    if not run.info.run_id:
        raise not_mlflow(uri)
    name = client.get_experiment(experiment_id).name
    _note(folder, uri, run.info.run_id, experiment_id, name)


def _note(folder: RunFolder, uri: str, run_id: str, experiment_id: str, experiment: str) -> None:
    folder.update(
        tracking_uri=uri,
        mlflow_run_id=run_id,
        mlflow_experiment_id=experiment_id,
        experiment=experiment,
        uploaded=False,
    )


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None  # an account without a name, as in some containers


def _is_active(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _send(client: Any, folder: RunFolder) -> None:
    meta = folder.meta
    run_id = meta["mlflow_run_id"]
    ended = milliseconds(meta["ended"] or meta["created"])
    kept = client.get_run(run_id).data.params
    params, conflicts = _new_params(params_of(folder), kept)
    tags = tags_of(folder)
    tags |= {"semseg.param_conflicts": conflicts} if conflicts else {}
    tags |= {"mlflow.note.content": describe(folder)}
    table = table_for_ui(folder)
    if table is not None:
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": TABLE, "type": "table"}])
    metrics = metrics_of(folder) | class_metrics_of(folder)
    _log_values(client, run_id, metrics, params, tags, ended)
    _log_datasets(client, run_id, meta["datasets"])
    _log_files(client, run_id, folder, {TABLE: table} if table is not None else {})
    client.set_terminated(run_id, meta["status"], ended)


def _last_change(folder: RunFolder) -> float:
    """When a file of the folder was last written, in seconds: how long its run lived at least."""
    return max(path.stat().st_mtime for path in folder.path.iterdir())


def _new_params(params: Mapping[str, str], kept: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The parameters that the run has not yet, and those that it has otherwise, in words.

    A parameter cannot be changed once logged; `mlflow run` logs those that it was called with.
    """
    cut = {name: value[:_MAX_PARAM] for name, value in params.items()}
    new = {name: value for name, value in cut.items() if name not in kept}
    differing = [n for n, v in cut.items() if n in kept and not _is_same(v, kept[n])]
    return new, "; ".join(f"{n}: logged {kept[n]}, used {cut[n]}" for n in differing)


def _is_same(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def _log_values(
    client: Any,
    run_id: str,
    metrics: Mapping[str, float],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    time: int,
) -> None:
    """Logs in batches: one by one, 600 values cost 25 s over HTTP."""
    from mlflow.entities import Metric, Param

    values = [Metric(name, value, time, 0) for name, value in metrics.items()]
    rest = [Param(name, value) for name, value in params.items()]
    while values or rest:
        client.log_batch(run_id, metrics=values[:_MAX_METRICS], params=rest[:_MAX_BATCH])
        del values[:_MAX_METRICS], rest[:_MAX_BATCH]
    _tag(client, run_id, tags)


def _tag(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    every = [RunTag(name, value[:_MAX_TAG]) for name, value in tags.items()]
    for begin in range(0, len(every), _MAX_BATCH):
        client.log_batch(run_id, tags=every[begin : begin + _MAX_BATCH])


def _log_datasets(client: Any, run_id: str, datasets: Sequence[Mapping[str, Any]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # MLflow keeps one entry per name and digest: a split in two roles says so in its context.
    roles: dict[tuple[str, str], list[str]] = {}
    inputs = {}
    for one in datasets:
        key = (f"{one['name']} {one['split']}", str(one["digest"])[:_MAX_DIGEST])
        roles.setdefault(key, []).append(one["role"])
        source = json.dumps({"uri": str(one["root"]), "split": one["split"]})
        profile = json.dumps({"n_images": one.get("n_images")})
        tag = InputTag("mlflow.data.context", ", ".join(roles[key]))
        inputs[key] = DatasetInput(Dataset(*key, "local", source, profile=profile), [tag])
    if inputs:
        _log_inputs(client, run_id, list(inputs.values()))


def _log_inputs(client: Any, run_id: str, inputs: Sequence[Any], tries: int = 3) -> None:
    """Logs datasets; again where another process stored the same one between MLflow's look for it
    and its insertion.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        is_duplicate = any(sign in str(error).lower() for sign in ("unique", "duplicate"))
        if tries == 1 or not is_duplicate:
            raise
        _log_inputs(client, run_id, inputs, tries - 1)


def _log_files(client: Any, run_id: str, folder: RunFolder, made: Mapping[str, str]) -> None:
    for path, at in files_of(folder):
        client.log_artifact(run_id, str(path), at or None)
    meta = folder.meta
    address = store_address.public(meta["tracking_uri"] or "")  # artifacts are for everybody
    run = json.dumps({**meta, "tracking_uri": address, "uploaded": True}, indent=2)
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in {**made, RUN_FILE: run}.items():
            path = Path(scratch, name)
            path.write_text(text, encoding="utf-8")
            client.log_artifact(run_id, str(path))
