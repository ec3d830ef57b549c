"""`presets list` and `presets show`: the named settings. No torch."""

from semseg_cli.settings.toml_files import OPEN, check_preset, preset_names, preset_text, raw_preset
from semseg_cli.show import console
from semseg_cli.show.tables import Column, Table

COLUMNS = (
    Column("preset", "preset", "text"),
    Column("about", "transformer, SAE, data", "text", elastic=True),
    Column("head", "head", "text"),
)


def list_presets(format: str) -> None:
    """Prints a row per preset."""
    rows = tuple(map(_row, preset_names()))
    notes = ("`semseg-cli presets show NAME` prints one with its paths; --preset NAME takes it.",)
    console.show(Table("Presets", COLUMNS, rows, notes), format)


def _row(name: str) -> dict[str, str]:
    values = raw_preset(name)
    head = str(values.get("seg_ckpt", ""))
    return {
        "preset": name,
        "vit": str(values["vit_ckpt"]),
        "sae": str(values.get("sae_ckpt") or values[OPEN]["sae_ckpt"].partition(",")[0]),
        "head": "yours" if not head else "with it",
        "about": preset_text(name).splitlines()[0].removeprefix("# "),
    }


def show_preset(name: str) -> None:
    """Prints a preset as the settings file that it is.

    Raises:
        UsageError: there is none of that name.
    """
    check_preset(name)
    console.stdout().print(preset_text(name), end="", markup=False, highlight=False, soft_wrap=True)
