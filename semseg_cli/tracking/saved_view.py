"""How MLflow's UI shows our runs: a saved view of the experiment, with its columns and charts.

The UI reads a saved view from a tag of the experiment, and the view's name from the address of the
page. What a view may hold was learnt from the front end of MLflow 3.17; an older or newer one that
does not know it shows its own columns instead.
"""

import json
from collections.abc import Sequence
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.runs.metrics import RUNS, shown
from semseg_cli.tracking.client import open_client, reporting
from semseg_cli.tracking.read import NO_RUNS, check_exists, pages

VIEW = "semseg-cli"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
SHOWN = shown(RUNS, "view")


def _width(key: str) -> int:
    """Room for a key in the head of its column, in pixels."""
    return next(width for most, width in ((10, 110), (14, 125), (250, 165)) if len(key) <= most)


# Column and width in pixels, from left to right.
COLUMNS = (
    ("attributes", "Run Name", 200),
    ("params", "select", 80),
    ("params", "scale", 70),
    *(("metrics", metric.key, _width(metric.key)) for metric in SHOWN),
    ("params", "protocol", 90),
)
CHARTS: tuple[str | tuple[str, str], ...] = (
    ("macro_other_change", "macro_target_change"),
    "macro_selectivity",
    ("scale", "macro_target_change"),
    "edit_norm",
)
_DEFINITIONS = "\n".join(f"- `{m.key}`: {m.help[0].lower()}{m.help[1:]}" for m in SHOWN)
NOTE = f"""\
Each run sets latents of a sparse autoencoder inside a vision transformer, and counts the patches
that change class.

{_DEFINITIONS}

Made by `semseg-cli`; its command `compare` sets runs side by side, with intervals."""


def experiment_tags() -> dict[str, str]:
    """The tags of a new experiment: what its numbers mean, and the view of its runs."""
    return {
        "mlflow.note.content": NOTE,
        "mlflow.experimentKind": "custom_model_development",
        VIEW_TAG: view_text(),
    }


def view_text() -> str:
    """The saved view, as its tag holds it."""
    made = 1_800_000_000_000  # the UI wants a time; a fixed one makes the same text each time
    return json.dumps(
        {"name": VIEW, "createdAt": made, "updatedAt": made, "state": json.dumps(_state())}
    )


def _state() -> dict[str, Any]:
    widths = {_column(group, name): width for group, name, width in COLUMNS}
    section = {"uuid": VIEW, "name": "Specificity", "display": True}
    rest = {"uuid": "rest", "name": "Model metrics", "display": False}
    return {
        "orderByKey": _column("metrics", "macro_selectivity"),
        "orderByAsc": False,
        "selectedColumns": [_column(group, name) for group, name, _ in COLUMNS[1:]],
        "columnOrder": [*widths, "runDateAndNestInfo", "duration"],
        "columnWidths": {**widths, "runDateAndNestInfo": 130, "duration": 80},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [_chart(i, axes) for i, axes in enumerate(CHARTS)],
        "compareRunSections": [section, rest],
    }


def _column(group: str, name: str) -> str:
    return f"{group}.`{name}`"


def _chart(number: int, axes: str | tuple[str, str]) -> dict[str, Any]:
    chart = {"uuid": f"{VIEW}-{number}", "metricSectionId": VIEW, "runsCountToCompare": 100}
    if isinstance(axes, str):
        return {**chart, "type": "BAR", "metricKey": axes}
    x, y = ({"key": key, "type": "METRIC"} for key in axes)
    return {**chart, "type": "SCATTER", "xaxis": x, "yaxis": y}


def runs_page(uri: str, experiment: str | None = None) -> str:
    """Where the UI of a store shows our runs: the part of its address after the server.

    The experiment is the one of that name, else that of the newest run. Its view is saved in the
    store if it is not there yet, and left out where the store cannot be written.

    Raises:
        SemsegError: the store, the experiment, or any run does not exist.
        StoreError: the store cannot be read.
    """
    check_exists(uri)
    with reporting(uri):
        client = open_client(uri, write=False)
        experiments = pages(client.search_experiments)
        chosen = _named(experiments, experiment) if experiment else _newest(client, experiments)
        view = f"&viewStateShareKey={VIEW}" if _has_view(client, chosen) else ""
        return f"/#/experiments/{chosen.experiment_id}/runs?workflowType=machine_learning{view}"


def _named(experiments: Sequence[Any], name: str) -> Any:
    for experiment in experiments:
        if experiment.name == name:
            return experiment
    known = ", ".join(sorted(one.name for one in experiments))
    raise SemsegError(
        f"There is no experiment {name!r} in the tracking store (there are: {known}): give one of "
        f"these with --experiment, or {NO_RUNS}."
    )


def _newest(client: Any, experiments: Sequence[Any]) -> Any:
    by_id = {one.experiment_id: one for one in experiments}
    runs = client.search_runs(
        list(by_id),
        "tags.semseg.kind != ''",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not runs:
        raise SemsegError(f"There is no run in the tracking store yet: {NO_RUNS}.")
    return by_id[runs[0].info.experiment_id]


def _has_view(client: Any, experiment: Any) -> bool:
    """Whether the experiment has our view, after trying to save it where it is missing."""
    from mlflow.exceptions import MlflowException

    if VIEW_TAG in experiment.tags:
        return True
    try:
        client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, view_text())
    except MlflowException:
        return False
    return True
