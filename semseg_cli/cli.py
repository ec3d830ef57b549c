"""The command line. Commands are short; what they do lives below."""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from semseg_cli import __version__
from semseg_cli.commands.groups import CacheDir, TableFormat, cache, demo, presets
from semseg_cli.commands.stopped import ResumableCommand
from semseg_cli.errors import UsageError
from semseg_cli.interrupts import listen
from semseg_cli.progress import importing, quietly, stage
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.ending import run_to_end
from semseg_cli.settings.compare import Compare
from semseg_cli.settings.help_page import HelpedCommand, HelpedGroup
from semseg_cli.settings.inputs import LookupSetup, Setup, StatsSetup, TrainSetup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS, Method
from semseg_cli.settings.options import SettingsCommand, warn_of_unknown_variables, with_settings
from semseg_cli.settings.output import Checkup, Output, Recorded, Resumable, Shown, Ui
from semseg_cli.settings.suite import Suite, SuiteSetup
from semseg_cli.settings.toml_files import INPUTS
from semseg_cli.settings.training import KeepStats, Training
from semseg_cli.streams import guard

app = typer.Typer(
    name="semseg-cli",
    help="Is this sparse-autoencoder latent really, and only, about this class?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    cls=HelpedGroup,
)
app.add_typer(demo, name="demo")
app.add_typer(cache, name="cache")
app.add_typer(presets, name="presets")
HEADLESS = tuple(name for name in INPUTS if name != "seg_ckpt")
IMPORTS = "Importing torch and transformers"
SHARED = (
    Choose.command,
    "stats",
    *(method.command for method in METHODS),
)  # work for several ranks


TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="SEMSEG_TRACKING_URI",
        show_envvar=False,
        help="MLflow store. Else MLFLOW_TRACKING_URI, else mlflow.db in this folder.",
    ),
]


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Is this sparse-autoencoder latent really, and only, about this class?"""
    warn_of_unknown_variables()
    name = context.invoked_subcommand
    if ranks.n_ranks() > 1 and name not in SHARED:
        raise UsageError(
            f"`{name}` is work for one process: run `semseg-cli {name}` without torchrun."
        )


def _require_named(
    setup: Setup | LookupSetup | StatsSetup | TrainSetup,
    *splits: str,
    needed: Sequence[str] = INPUTS,
    lookup: str | None = None,
) -> None:
    """Refuses inputs that are missing or not there, before torch loads."""
    from semseg_cli.experiment.named_inputs import require_named

    require_named(setup, needed, splits, lookup)


@app.command(Choose.command, cls=SettingsCommand)
@with_settings
def lookup(choice: Choose, setup: LookupSetup, output: Output) -> None:
    """Find the latent that detects each class."""
    if choice.tries_edits:
        _require_named(setup, setup.imgs.split)
    else:
        _require_named(setup, setup.lookup_split, needed=HEADLESS)
    with stage(IMPORTS), importing():
        from semseg_cli.commands.lookup import look_up

    look_up(setup, choice, output)


def _add_method(kind: type[Method]) -> None:
    """Adds a method's command: its options and its help come from its settings."""

    def run_method(method: Method, setup: Setup, output: Resumable) -> None:
        if output.resume is None:
            _require_named(setup, setup.imgs.split, lookup=method.lookup)
        with stage(IMPORTS), importing():
            from semseg_cli.commands.intervene import intervene

        intervene(setup, method, output)

    run_method.__doc__ = kind.__doc__
    run_method.__annotations__["method"] = kind
    app.command(kind.command, cls=ResumableCommand)(with_settings(run_method))


for _kind in METHODS:
    _add_method(_kind)


@app.command(Suite.command, cls=SettingsCommand)
@with_settings
def suite(settings: Suite, setup: SuiteSetup, output: Shown) -> None:
    """Run all methods and controls: which latents cause their class?

    Several SAEs, or layers, are put side by side.
    """
    if setup.sae_ckpt:
        _require_named(setup, setup.imgs.split)
    with stage(IMPORTS), importing():
        from semseg_cli.commands.suite.command import run_suite

    run_suite(setup, settings, output)


@app.command("doctor", cls=SettingsCommand)
@with_settings
def doctor(setup: Setup, checkup: Checkup) -> None:
    """Check everything that a run would use: do the parts fit?"""
    with stage(IMPORTS), importing():
        from semseg_cli.commands.doctor import diagnose

    if not diagnose(setup, checkup):
        raise typer.Exit(1)


@app.command("stats", cls=SettingsCommand)
@with_settings
def stats(keep: KeepStats, setup: StatsSetup, output: Recorded) -> None:
    """Make an autoencoder's statistics: mean, norm, firing, maxima."""
    needed = HEADLESS if setup.seg_ckpt is None else INPUTS
    _require_named(setup, setup.lookup_split, needed=needed)
    with stage(IMPORTS), importing():
        from semseg_cli.commands.stats import make_stats

    make_stats(setup, keep, output)


@app.command("train-head", cls=SettingsCommand)
@with_settings
def train_head(training: Training, setup: TrainSetup, output: Recorded) -> None:
    """Train a linear segmentation head: a sweep, the best is kept."""
    _require_named(setup, setup.lookup_split, setup.imgs.split, needed=("vit_ckpt", "imgs_root"))
    with stage(IMPORTS), importing():
        from semseg_cli.commands.train_head.command import train_head as train

    train(setup, training, output)


@app.command("compare", cls=SettingsCommand)
@with_settings
def compare(
    settings: Compare,
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs by folder, name, id or the beginning of an id."),
    ] = None,
) -> None:
    """Put runs side by side. Without RUNS, the newest finished one of each kind."""
    from semseg_cli.commands.compare.command import compare as compare_runs
    from semseg_cli.show.console import say, show, stdout

    with stage("Comparing the runs"):
        table = compare_runs(settings, runs or [], stdout().width)
    show(table, settings.output_format, settings.output, settings.precision)
    if settings.plot is not None:
        say(f"Wrote {settings.plot}")


@app.command("ui", cls=SettingsCommand)
@with_settings
def ui(settings: Ui) -> None:
    """Open the tracked runs in MLflow's web pages."""
    from semseg_cli.commands.ui import open_ui

    open_ui(settings)


@app.command("upload", cls=HelpedCommand)
def upload(
    runs: Annotated[
        list[str], typer.Argument(help="Runs by their folder in --dump-to, name or id.")
    ],
    dump_to: Annotated[
        Path, typer.Option(envvar="SEMSEG_DUMP_TO", show_envvar=False, help="Folder of the runs.")
    ] = Output.dump_to,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="SEMSEG_TRACKING_URI",
            show_envvar=False,
            help="MLflow store; else the one the run was meant for.",
        ),
    ] = None,
) -> None:
    """Finish the tracking of runs whose store did not take them, or that were not tracked."""
    from semseg_cli import tracking
    from semseg_cli.show import console
    from semseg_cli.tracking.store_address import public

    for folder in [tracking.find_folder(run, dump_to) for run in runs]:
        with console.showing_warnings():
            tracking.upload(folder, tracking_uri)
        console.say(f"Uploaded: {folder.path} to {public(folder.meta['tracking_uri'])}")


@app.command("env", cls=HelpedCommand)
def env(
    format: TableFormat = "table",
    cache_dir: CacheDir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Print versions, devices and folders, for bug reports."""
    with stage(IMPORTS), importing():
        from semseg_cli.commands.env import print_environment

    print_environment(format, cache_dir, tracking_uri)


def run(args: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 known failure, 2 wrong usage, 130 interrupted."""
    listen()
    guard()
    logging.getLogger("semseg_cli").addHandler(logging.NullHandler())
    logging.raiseExceptions = False  # a full disk must not print over the one sentence
    with quietly(False):
        run_to_end(lambda: root_command()(args=args, prog_name="semseg-cli"))


@functools.cache
def root_command() -> Any:
    """All commands with their options, built once: it takes as long as a small command does."""
    return get_command(app)
