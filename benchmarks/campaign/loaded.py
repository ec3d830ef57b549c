"""What a process of the fork server has loaded; importing this is most of a short command."""

import gc
import warnings
from importlib import import_module

NAMES = (
    "torch", "pyarrow.parquet", "transformers.models.auto.modeling_auto",
    "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers",
    "sqlalchemy", "alembic", "mlflow.tracking.client", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.artifact_repository_registry", "semseg_cli.cli",
    "semseg_cli.commands.intervene", "semseg_cli.commands.lookup", "semseg_cli.commands.stats",
    "semseg_cli.commands.suite.command", "semseg_cli.commands.compare.command",
    "torch.distributed.run", "mlflow.server.fastapi_app", "uvicorn",
)  # fmt: skip

with warnings.catch_warnings(action="ignore"):  # what libraries say of each other
    for name in NAMES:
        import_module(name)
gc.freeze()  # else every process looks through all of it when it ends: 5 times the work
