"""Checks what `semseg-cli auto-feat` left in the working directory: one good, tracked run."""

import json
from pathlib import Path

from mlflow.tracking import MlflowClient

(report_path,) = Path("semseg-runs").glob("*/report.json")
metrics = json.loads(report_path.read_text())["metrics"]
assert metrics["target_change"] >= 0.70, metrics
assert metrics["other_change"] <= 0.10, metrics

client = MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("semseg")
(run,) = client.search_runs([experiment.experiment_id])
assert run.info.status == "FINISHED", run.info.status
assert run.data.metrics == metrics, (run.data.metrics, metrics)
print("1 passed, 0 failed: the first run is good and tracked")
