"""What the machine does during a run, as MLflow's system metrics."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from semseg_cli.errors import StoreError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking.client import open_client, reporting
from semseg_cli.tracking.patience import Patience
from semseg_cli.tracking.store_address import for_mlflow

log = logging.getLogger("semseg_cli")


@contextmanager
def system_metrics(folder: RunFolder) -> Iterator[None]:
    """Tracks the use of processor, memory, disk, network and GPU in the folder's MLflow run.

    A sample every 10 s (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL), and one at the end. Only the
    store gets them, not the folder; a store that does not take them is no reason to end the run.
    """
    meta = folder.meta
    uri, run_id = meta["tracking_uri"], meta["mlflow_run_id"]
    open_client(uri, write=True)  # sets how MLflow's clients behave
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, tracking_uri=for_mlflow(uri))
    monitor.start()
    try:
        yield
    finally:
        _end(monitor, uri)


def _end(monitor: Any, uri: str) -> None:
    try:
        with reporting(uri):
            Patience().wait_for(lambda: _log_last_sample(monitor))
    except StoreError as error:
        log.error("system metrics: %s", error)


def _log_last_sample(monitor: Any) -> None:
    """Short runs have no other sample; in long ones it covers the time since the last."""
    monitor.finish()
    monitor.collect_metrics()
    monitor.publish_metrics(monitor.aggregate_metrics())
    monitor.mlflow_logger.flush()
