"""Groups of commands: the demo world, what is kept on the disk, named settings."""

from pathlib import Path
from typing import Annotated

import typer

from semseg_cli.demo.seed import WORLD_SEED as SEED
from semseg_cli.settings.help_page import HelpedCommand, HelpedGroup
from semseg_cli.settings.output import FORMATS, Format

demo = typer.Typer(help="The embedded demo world.", cls=HelpedGroup, no_args_is_help=True)
cache = typer.Typer(help="The residuals kept on disk.", cls=HelpedGroup, no_args_is_help=True)
presets = typer.Typer(
    help="The named settings for --preset.", cls=HelpedGroup, no_args_is_help=True
)

CacheDir = Annotated[
    Path | None, typer.Option(envvar="SEMSEG_CACHE_DIR", help="Else your user cache folder.")
]


TableFormat = Annotated[
    Format,
    typer.Option(
        envvar="SEMSEG_FORMAT",
        show_envvar=False,
        metavar="NAME",
        help=f"Form of the printed table: {', '.join(FORMATS)}.",
    ),
]


@demo.command("export", cls=HelpedCommand)
def demo_export(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    cache_dir: CacheDir = None,
) -> None:
    """Write the demo world out: models, statistics, scenes, settings."""
    from semseg_cli.demo.world import export
    from semseg_cli.files import cache_folder, expanded
    from semseg_cli.show import console

    with console.progress_bars() as progress:
        made = export(expanded(folder), cache_folder(cache_dir), progress)
    console.say(f"Wrote {made}; run it with: semseg-cli auto-feat --config {made}/demo.toml")


@demo.command("build", cls=HelpedCommand)
def demo_build(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")] = Path("demo-world"),
    seed: Annotated[int, typer.Option(help="Seed of the scenes and of the training.")] = SEED,
) -> None:
    """Train the demo world from scratch (2 to 4 minutes on 2 cores)."""
    from semseg_cli.commands.demo_build.recipe import build
    from semseg_cli.files import expanded
    from semseg_cli.show import console

    with console.progress_bars() as progress:
        made = build(expanded(folder), seed, progress)
    console.say(f"Wrote {made}; run it with: semseg-cli auto-feat --config {made}/demo.toml")


@cache.command("list", cls=HelpedCommand)
def cache_list(
    cache_dir: CacheDir = None,
    format: TableFormat = "table",
) -> None:
    """List what is kept: ViT, layer, images, size, last use."""
    from semseg_cli.commands.cache import list_cache

    list_cache(cache_dir, format)


@cache.command("clear", cls=HelpedCommand)
def cache_clear(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Entries by (the beginning of) their ids.")
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Remove entries; without IDS, all of them. Whatever is missed later is computed anew."""
    from semseg_cli.commands.cache import clear_cache

    clear_cache(cache_dir, ids or [])


@presets.command("list", cls=HelpedCommand)
def presets_list(
    format: TableFormat = "table",
) -> None:
    """List what is published and ready to use: transformer, SAE, head."""
    from semseg_cli.commands.presets import list_presets

    list_presets(format)


@presets.command("show", cls=HelpedCommand)
def presets_show(name: Annotated[str, typer.Argument(help="Name of a preset.")]) -> None:
    """Print a preset as the settings file that it is."""
    from semseg_cli.commands.presets import show_preset

    show_preset(name)
