"""What a run's folder holds, sent to its run in a store."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.runs.contents import metrics_of, params_of
from semseg_cli.runs.folder import RUN_FILE, SETTINGS_FILE, RunFolder
from semseg_cli.tracking import store_address
from semseg_cli.tracking.tracked_run import (
    TABLE,
    class_metrics_of,
    describe,
    files_of,
    milliseconds,
    table_for_ui,
    tags_of,
)

_MAX_PARAM, MAX_TAG, _MAX_DIGEST = 6000, 8000, 36
_MAX_BATCH, _MAX_METRICS = 100, 800


def send(client: Any, folder: RunFolder) -> None:
    """Sends what a folder holds to its run: numbers, parameters, tags, datasets, files."""
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


def _new_params(params: Mapping[str, str], kept: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The parameters that the run has not yet, and those that it has otherwise, in words.

    A parameter cannot be changed once logged; `mlflow run` logs those that it was called with.
    """
    cut = {name: _short(value) for name, value in params.items()}
    new = {name: value for name, value in cut.items() if name not in kept}
    differing = [n for n, v in cut.items() if n in kept and not _is_same(v, kept[n])]
    return new, "; ".join(f"{n}: logged {kept[n]}, used {cut[n]}" for n in differing)


def _short(value: str) -> str:
    """A value as a parameter; one that is too long for MLflow ends by saying where it is whole."""
    end = f" ... ({len(value)} characters: {SETTINGS_FILE} has all)"
    return value if len(value) <= _MAX_PARAM else value[: _MAX_PARAM - len(end)] + end


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
    tag(client, run_id, tags)


def tag(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets tags of a run, in batches, cut to what MLflow takes."""
    from mlflow.entities import RunTag

    every = [RunTag(name, value[:MAX_TAG]) for name, value in tags.items()]
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
