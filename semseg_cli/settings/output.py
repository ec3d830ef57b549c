"""Where results go, and what is shown of them."""

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from semseg_cli.settings.base import Settings, option

Format = Literal["table", "csv", "json", "markdown", "latex"]
FORMATS = get_args(Format)
RESERVED = ("mlflow.", "semseg.")
EXPERIMENT = "semseg"
MOST_OF_A_NAME = 250  # characters: what MLflow's databases hold of the name of a run
MOST_OF_AN_EXPERIMENT = 500
MOST_OF_A_TAG = 8000
PORT = 5000  # of MLflow's web pages


def store_option() -> Any:
    """The option that names the MLflow store."""
    return option(None, "MLflow store. Else MLFLOW_TRACKING_URI, else mlflow.db in this folder.")


def experiment_option() -> Any:
    """The option that names the experiment of a run."""
    return option(
        None, f"MLflow experiment. Else MLFLOW_EXPERIMENT_NAME or _ID, else {EXPERIMENT}."
    )


@dataclass(frozen=True, kw_only=True)
class Places(Settings):
    """Where runs are written and tracked, and how results are printed."""

    panel: ClassVar[str] = "Results"

    dump_to: Path = option(Path("semseg-runs"), "Folder that receives a folder per run.")
    tracking_uri: str | None = store_option()
    no_track: bool = option(False, "Write the local run folder only, without MLflow.")
    format: Format = option("table", f"Form of the printed results: {', '.join(FORMATS)}.")
    quiet: bool = option(False, "No progress and no messages. The summary still prints.")


@dataclass(frozen=True, kw_only=True)
class Checkup(Places):
    """What `doctor` looks at beside the settings of the run that follows."""

    panel: ClassVar[str] = "Results"

    probe_images: int = option(
        8, "Images of each split on which the parts are tried together.", ge=1, le=256
    )


@dataclass(frozen=True, kw_only=True)
class Recorded(Places):
    """Where the folder of a run goes, what it is called, and what is said meanwhile."""

    panel: ClassVar[str] = "Results"

    experiment: str | None = experiment_option()
    artifact_root: str | None = option(
        None, "Where a new experiment keeps its files: a folder or s3://... Else the store says."
    )
    run_name: str | None = option(None, "Name of the run. Else made from method and scale.")
    tags: tuple[str, ...] = option((), "Tag KEY=VALUE of the run (repeatable).", flag="tag")
    system_metrics: bool = option(
        False, "Track processor, memory, disk and GPU use as metrics system/... (needs psutil)."
    )
    dry_run: bool = option(False, "Say what would run and how long it takes, then stop.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for tag in self.tags:
            if "=" not in tag or not tag.partition("=")[0].strip():
                raise ValueError(f"tag is {tag!r}: give it as KEY=VALUE")
            _check_key(tag.partition("=")[0])
            _check_text("tag", tag.partition("=")[2], MOST_OF_A_TAG)
        if not self.experiment_name.strip():
            raise ValueError(f"experiment is {self.experiment!r}: give it a name")
        _check_text("experiment", self.experiment_name, MOST_OF_AN_EXPERIMENT)
        _check_text("run_name", self.run_name or "", MOST_OF_A_NAME)
        if self.system_metrics and self.no_track:
            raise ValueError("system_metrics is about tracking: leave out --no-track")
        if self.system_metrics and find_spec("psutil") is None:
            raise ValueError("system_metrics needs psutil: run `pip install psutil`")

    @property
    def experiment_name(self) -> str:
        """The experiment that was asked for by option or variable, else our own."""
        return named_experiment(self.experiment)

    @property
    def experiment_id(self) -> str | None:
        """The id in MLFLOW_EXPERIMENT_ID; None where the experiment goes by its name."""
        is_named = self.experiment is not None or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        return None if is_named else os.environ.get("MLFLOW_EXPERIMENT_ID") or None


def named_experiment(option: str | None) -> str:
    """The name of an experiment: as given, else of MLFLOW_EXPERIMENT_NAME, else our own."""
    if option is not None:
        return option
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _check_text(name: str, text: str, most: int) -> None:
    """Refuses a text that MLflow would cut, or that a database does not take."""
    if len(text) > most:
        raise ValueError(
            f"{name} begins with {text[:40]!r} and has {len(text)} characters: give {most} at most"
        )
    if "\0" in text:
        raise ValueError(f"{name} is {text[:60]!r}: leave out the null character")


def _check_key(key: str) -> None:
    """Refuses the key of a tag that MLflow does not take, or that is not the user's to set."""
    parts = key.split("/")
    if not re.fullmatch(r"[\w.\-: /]{1,250}", key) or any(p in ("", ".", "..") for p in parts):
        raise ValueError(
            f"tag has the key {key[:60]!r}: give letters, digits, spaces, _ - . : and single /, "
            "250 at most"
        )
    if key.startswith(RESERVED):
        raise ValueError(f"tag has the key {key!r}: {' and '.join(RESERVED)} are set by programs")


@dataclass(frozen=True, kw_only=True)
class Output(Recorded):
    """Where results go, pictures among them."""

    panel: ClassVar[str] = "Results"

    no_plots: bool = option(False, "Draw nothing: no plots, no examples, no report.html.")


@dataclass(frozen=True, kw_only=True)
class Shown(Output):
    """Where the results of an intervention go, and on which images it is shown."""

    panel: ClassVar[str] = "Results"

    log_class_metrics: bool = option(
        False, "Track the numbers of every class as metrics class/NAME/..., too."
    )
    examples: int = option(
        0, "Show the edit on this many images of the most and the least selective class.",
        ge=0, le=20,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log_class_metrics and self.no_track:
            raise ValueError("log_class_metrics is about tracking: leave out --no-track")
        if self.examples and self.no_plots:
            raise ValueError(f"examples is {self.examples}: leave out --no-plots to draw them")


@dataclass(frozen=True, kw_only=True)
class Resumable(Shown):
    """Where the results of one method go, and which stopped run it goes on with."""

    panel: ClassVar[str] = "Results"

    resume: str | None = option(
        None, "Go on with a stopped run: its folder, that name's end (1a2b), its id or name."
    )


@dataclass(frozen=True, kw_only=True)
class Ui(Settings):
    """What to open, and where."""

    panel: ClassVar[str] = "MLflow UI"

    tracking_uri: str | None = store_option()
    experiment: str | None = option(None, "Experiment to open; else that of the newest run.")
    port: int | None = option(
        None, f"Port on this machine; else {PORT}, or a free one where that is taken.",
        ge=1, le=65535,
    )  # fmt: skip
    no_browser: bool = option(False, "Print the address only.")
