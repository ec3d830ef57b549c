"""`mlflow run`: its entry points are our commands, its parameters our options."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import mlflow_store as stores
import pytest
import yaml
from mlflow.projects._project_spec import load_project
from terminal import Terminal, options
from worlds import World

from semseg_cli.cli import app
from semseg_cli.settings.methods import METHODS

REPOSITORY = Path(__file__).parents[1]


def conda() -> dict[str, Any]:
    return dict(yaml.safe_load((REPOSITORY / "conda.yaml").read_text()))


def test_every_entry_point_is_a_command() -> None:
    project = load_project(str(REPOSITORY))
    names = set(project._entry_points)
    commands = {str(command.name) for command in app.registered_commands}
    assert {"main", "lookup", "compare", *(method.command for method in METHODS)} <= names
    assert names - {"main"} <= commands
    for name in names:
        command = project.get_entry_point(name).compute_command({"seed": "3"}, None)
        ours = "auto-feat" if name == "main" else name
        assert command == f"python -m semseg_cli {ours} --seed 3"


def test_the_environment_is_the_package_as_it_is_tested() -> None:
    python, _, packages = conda()["dependencies"]
    required = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert python == f"python{required['requires-python']}"
    assert packages == {"pip": ["-c constraints.txt", "-e ."]}
    assert (REPOSITORY / "constraints.txt").exists()
    assert load_project(str(REPOSITORY)).env_config_path == str(REPOSITORY / "conda.yaml")


def test_options_can_be_spelt_as_parameters_are(known_world: World, terminal: Terminal) -> None:
    dashed = options(known_world, min_patches="7")
    as_parameters = [arg.replace("-", "_").replace("__", "--", 1) for arg in dashed[::2]]
    spelt = [part for pair in zip(as_parameters, dashed[1::2], strict=True) for part in pair]
    assert "--imgs_root" in spelt
    done = terminal.type("auto-feat", *spelt, "--run_name=my_run", "--no-track")
    assert done.code == 0, done.err
    (folder,) = terminal.runs()
    assert "my-run" in folder.name


@pytest.mark.slow
def test_mlflow_run_fills_the_run_that_it_made(tiny_world: World, terminal: Terminal) -> None:
    named = options(tiny_world, scale="-3", select="causal", dump_to=str(terminal.folder / "out"))
    pairs = zip(named[::2], named[1::2], strict=True)
    given = {name.removeprefix("--").replace("-", "_"): value for name, value in pairs}
    parameters = [part for item in given.items() for part in ("-P", "=".join(item))]
    uri = f"sqlite:///{terminal.folder}/mlflow.db"
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [
            sys.executable, "-m", "mlflow", "run", str(REPOSITORY), "-e", "auto-feat",
            "--env-manager", "local", *parameters,
        ],
        cwd=terminal.folder, capture_output=True, text=True,
        env={**os.environ, "PATH": here, "MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = stores.client(uri).search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["scale"] == -3
    assert run.data.tags["semseg.method"] == "auto-feat"
    assert run.data.tags["mlflow.project.entryPoint"] == "auto-feat"
    assert "semseg.param_conflicts" not in run.data.tags
    assert run.data.params["select"] == "causal"
    assert run.data.params["imgs_root"] == str(tiny_world.data)
    assert not any("-" in name for name in run.data.params)
    (folder,) = (terminal.folder / "out").iterdir()
    assert run.info.run_id in (folder / "run.json").read_text()
    shown = terminal.type("compare", "--experiment", "Default", "--format", "csv")
    assert (shown.code, str(run.info.run_name) in shown.out) == (0, True)
