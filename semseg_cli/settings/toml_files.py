"""Named settings and settings files: TOML with one key per option."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from semseg_cli.errors import UsageError
from semseg_cli.files import cache_folder, expanded
from semseg_cli.readers import read_toml
from semseg_cli.settings.entries import Entry, entries, item_type
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS
from semseg_cli.settings.output import Checkup, Resumable
from semseg_cli.settings.suite import Suite, SuiteSetup
from semseg_cli.settings.training import KeepStats, Training

# Naming one of these says that the user brings their own parts.
STATS = ("act_mean", "act_norm", "sparsity", "top_values")  # what a file of --stats holds
INPUTS = ("vit_ckpt", "sae_ckpt", "seg_ckpt", "imgs_root")
DEFAULT_PRESET = "demo"
_PRESETS = resources.files(__package__) / "presets"
OPEN = "open"  # the table of a preset that holds what it leaves to the user
KNOWN: dict[str, Entry] = {
    entry.key: entry
    for cls in (Choose, *METHODS, Suite, SuiteSetup, KeepStats, Training, Resumable, Checkup)
    for entry in entries(cls)
}


def preset_names() -> list[str]:
    """The presets that come with the package."""
    files = _PRESETS.iterdir()
    return sorted(Path(f.name).stem for f in files if f.name.endswith(".toml"))


def layered(
    preset: str | None,
    config: str | None,
    named: Mapping[str, Any],
    keys: Collection[str] = KNOWN.keys(),
) -> dict[str, Any]:
    """Key -> value from a settings file over a preset.

    Without either, and if `named` (what the user gave otherwise) has none of the inputs, this is
    the demo world. `keys` are those that the command has.

    Raises:
        UsageError: an unknown preset, file, key, a value of the wrong type, or a key that the
            preset leaves to the user and that is not given.
    """
    from_file = read_config(Path(config)) if config else {}
    preset = preset or from_file.pop("preset", None)
    if not (preset or config or any(name in named for name in INPUTS)):
        preset = DEFAULT_PRESET
    from_file.pop("preset", None)
    from_preset = read_preset(preset, _cache_of(named, from_file)) if preset else {}
    open_keys = from_preset.pop(OPEN, {})
    given = from_file.keys() | {name for name, value in named.items() if value is not None}
    missing = {key: hint for key, hint in open_keys.items() if key in keys and key not in given}
    if missing:
        wanted = " and ".join(f"--{k.replace('_', '-')} ({v})" for k, v in missing.items())
        raise UsageError(f"The preset {preset} leaves a choice to you: add {wanted}.")
    if named.get("stats") is not None:  # typed now: it wins over what files say of its parts
        from_file = {key: value for key, value in from_file.items() if key not in STATS}
    if named.get("stats") is not None or "stats" in from_file:
        from_preset = {key: value for key, value in from_preset.items() if key not in STATS}
    return {**from_preset, **from_file}


def layered_cache(config: str | None, named: Mapping[str, Any]) -> Path:
    """The cache folder as `layered` finds it: the named one, a settings file's, or the usual one.

    Raises:
        UsageError: the settings file cannot be used.
    """
    return _cache_of(named, read_config(Path(config)) if config else {})


def _cache_of(named: Mapping[str, Any], from_file: Mapping[str, Any]) -> Path:
    return cache_folder(named.get("cache_dir") or from_file.get("cache_dir"))


def check_preset(name: str) -> None:
    """Raises a UsageError where there is no preset of this name."""
    known = preset_names()
    if name not in known:
        close = " or ".join(difflib.get_close_matches(name, known))
        hint = f"did you mean {close}?" if close else f"choose one of {', '.join(known)}."
        raise UsageError(f"There is no preset {name!r}: {hint}")


def preset_text(name: str) -> str:
    """A preset as it is written."""
    return (_PRESETS / f"{name}.toml").read_text("utf-8")


def raw_preset(name: str) -> dict[str, Any]:
    """The settings of a preset, with its folders as placeholders."""
    return tomllib.loads(preset_text(name))


def read_preset(name: str, cache_dir: Path) -> dict[str, Any]:
    """The settings of a preset, with its folders filled in.

    Under `open` are the keys that it leaves to the user, each with a hint.
    """
    check_preset(name)
    from semseg_cli.demo.world import shipped_files, world_folder

    folders = {
        "weights": shipped_files().folder,
        "world": world_folder(cache_dir),
        "presets": Path(__file__).parent / "presets",
    }
    return {key: _filled(value, folders) for key, value in raw_preset(name).items()}


def _filled(value: Any, folders: Mapping[str, Path]) -> Any:
    if not isinstance(value, str):
        return value
    for name, folder in folders.items():
        value = value.replace(f"{{{name}}}", str(folder))
    return value


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; relative paths that exist beside it are resolved."""
    expected = "check --config, a TOML file with one key per option"
    values = read_toml(expanded(path), f"The settings file {path}", expected)
    for key, value in values.items():
        _check(key, value, path)
    return {key: _beside(path, key, value) for key, value in values.items()}


def _check(key: str, value: Any, path: Path) -> None:
    if key == "preset" and isinstance(value, str):
        return
    if key not in KNOWN:
        close = difflib.get_close_matches(key, KNOWN, n=1)
        hint = f"did you mean {close[0]}?" if close else "options are listed by --help."
        raise UsageError(f"The settings file {path} has the unknown key {_short(key)}: {hint}")
    kind, is_repeated = item_type(KNOWN[key].field)
    values = value if is_repeated and isinstance(value, list) else [value]
    allowed = allowed_types(kind, KNOWN[key])
    for one in values:
        if type(one) not in allowed:
            names = " or ".join(sorted({t.__name__ for t in allowed}))
            raise UsageError(
                f"The settings file {path} has {key} = {_short(one)}: expected {names}."
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def allowed_types(kind: Any, entry: Entry) -> Collection[type]:
    """What one value of an option may be, where it is not typed but given as it is."""
    if kind is float:
        return (int, float)
    if kind in (int, bool):
        return (kind,)
    members = str(entry.field.type)  # of a union with str
    if "float" in members:
        return (str, int, float)
    return (str, int) if "int" in members else (str,)


def _beside(path: Path, key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_beside(path, key, one) for one in value]
    if key in KNOWN and KNOWN[key].field.metadata.get("path") and isinstance(value, str):
        beside = expanded(path).absolute().parent / value
        return str(beside) if beside.exists() else value
    return value
