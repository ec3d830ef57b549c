"""The command line. Commands are short; what they do lives below."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from semseg_cli import __version__
from semseg_cli.commands.stopped import ResumableCommand
from semseg_cli.demo.seed import WORLD_SEED as SEED
from semseg_cli.errors import UsageError
from semseg_cli.interrupts import listen
from semseg_cli.ranks import group as ranks
from semseg_cli.ranks.ending import run_to_end
from semseg_cli.settings.compare import Compare
from semseg_cli.settings.inputs import LookupSetup, Setup, StatsSetup, TrainSetup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS, Method
from semseg_cli.settings.options import (
    SettingsCommand,
    warn_of_unknown_variables,
    with_settings,
)
from semseg_cli.settings.output import Checkup, Format, Output, Recorded, Resumable, Shown, Ui
from semseg_cli.settings.suite import Suite, SuiteSetup
from semseg_cli.settings.training import KeepStats, Training

app = typer.Typer(
    name="semseg-cli",
    help="Is this sparse-autoencoder latent really, and only, about this class?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo = typer.Typer(help="The embedded demo world.", no_args_is_help=True)
app.add_typer(demo, name="demo")
cache = typer.Typer(help="The residuals kept on disk.", no_args_is_help=True)
app.add_typer(cache, name="cache")
presets = typer.Typer(help="The named settings for --preset.", no_args_is_help=True)
app.add_typer(presets, name="presets")
SHARED = (
    Choose.command,
    "stats",
    *(method.command for method in METHODS),
)  # work for several ranks


CacheDir = Annotated[
    Path | None, typer.Option(envvar="SEMSEG_CACHE_DIR", help="Else your user cache folder.")
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


@app.command(Choose.command, cls=SettingsCommand)
@with_settings
def lookup(choice: Choose, setup: LookupSetup, output: Output) -> None:
    """Find the latent that detects each class."""
    from semseg_cli.commands.lookup import look_up

    look_up(setup, choice, output)


def _add_method(kind: type[Method]) -> None:
    """Adds a method's command: its options and its help come from its settings."""

    def run_method(method: Method, setup: Setup, output: Resumable) -> None:
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
    """Run every method, control and baseline, and say for which classes the latent is the cause.

    Several SAEs, or layers, are put side by side.
    """
    from semseg_cli.commands.suite.command import run_suite

    run_suite(setup, settings, output)


@app.command("doctor", cls=SettingsCommand)
@with_settings
def doctor(setup: Setup, checkup: Checkup) -> None:
    """Check everything that a run would use, and whether the parts fit each other."""
    from semseg_cli.commands.doctor import diagnose

    if not diagnose(setup, checkup):
        raise typer.Exit(1)


@app.command("stats", cls=SettingsCommand)
@with_settings
def stats(keep: KeepStats, setup: StatsSetup, output: Recorded) -> None:
    """Make the statistics of an autoencoder: mean, norm, firing, maxima."""
    from semseg_cli.commands.stats import make_stats

    make_stats(setup, keep, output)


@app.command("train-head", cls=SettingsCommand)
@with_settings
def train_head(training: Training, setup: TrainSetup, output: Recorded) -> None:
    """Train a linear segmentation head: a sweep at once, the best is kept."""
    from semseg_cli.commands.train_head.command import train_head as train

    train(setup, training, output)


@app.command("compare", cls=SettingsCommand)
@with_settings
def compare(
    settings: Compare,
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs by id, unambiguous id prefix, name, or local run folder."),
    ] = None,
) -> None:
    """Put runs side by side; without RUNS, the newest finished one of each kind."""
    from semseg_cli.commands.compare.command import compare as compare_runs
    from semseg_cli.show.console import say, show, stdout

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


@app.command("upload")
def upload(
    folders: Annotated[list[Path], typer.Argument(help="Run folders (below --dump-to).")],
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="SEMSEG_TRACKING_URI",
            show_envvar=False,
            help="MLflow store; else the one the run was meant for.",
        ),
    ] = None,
) -> None:
    """Finish the tracking of runs whose store failed or that were not tracked."""
    from semseg_cli import tracking
    from semseg_cli.runs.folder import RunFolder
    from semseg_cli.show import console
    from semseg_cli.tracking.store_address import public

    for folder in folders:
        tracking.upload(RunFolder(folder), tracking_uri)
        console.say(f"Uploaded: {folder} to {public(RunFolder(folder).meta['tracking_uri'])}")


@demo.command("export")
def demo_export(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    cache_dir: CacheDir = None,
) -> None:
    """Write the demo world out: models, statistics, scenes, settings."""
    from semseg_cli.demo.world import export
    from semseg_cli.files import cache_folder
    from semseg_cli.show import console

    with console.progress_bars() as progress:
        made = export(folder, cache_folder(cache_dir), progress)
    console.say(f"Wrote {made}; run it with: semseg-cli auto-feat --config {made}/demo.toml")


@demo.command("build")
def demo_build(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")] = Path("demo-world"),
    seed: Annotated[int, typer.Option(help="Seed of the scenes and of the training.")] = SEED,
) -> None:
    """Train the demo world from scratch (2 to 4 minutes on 2 cores)."""
    from semseg_cli.commands.demo_build.recipe import build
    from semseg_cli.show import console

    with console.progress_bars() as progress:
        made = build(folder, seed, progress)
    console.say(f"Wrote {made}; run it with: semseg-cli auto-feat --config {made}/demo.toml")


@cache.command("list")
def cache_list(
    cache_dir: CacheDir = None,
    format: Annotated[Format, typer.Option(help="Form of the printed table.")] = "table",
) -> None:
    """List what is kept: ViT, layer, images, size, last use."""
    from semseg_cli.commands.cache import list_cache

    list_cache(cache_dir, format)


@cache.command("clear")
def cache_clear(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Entries by (the beginning of) their ids.")
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Remove entries; without IDS, all of them. Whatever is missed later is computed anew."""
    from semseg_cli.commands.cache import clear_cache

    clear_cache(cache_dir, ids or [])


@presets.command("list")
def presets_list(
    format: Annotated[Format, typer.Option(help="Form of the printed table.")] = "table",
) -> None:
    """List what is published and ready to use: transformer, SAE, head."""
    from semseg_cli.commands.presets import list_presets

    list_presets(format)


@presets.command("show")
def presets_show(name: Annotated[str, typer.Argument(help="Name of a preset.")]) -> None:
    """Print a preset as the settings file that it is."""
    from semseg_cli.commands.presets import show_preset

    show_preset(name)


def run(args: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 known failure, 2 wrong usage, 130 interrupted."""
    listen()
    logging.getLogger("semseg_cli").addHandler(logging.NullHandler())
    logging.raiseExceptions = False  # a full disk must not print over the one sentence
    run_to_end(lambda: app(args=args))
