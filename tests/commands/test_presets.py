"""`presets list` and `presets show`."""

import json
import tomllib
from pathlib import Path

from terminal import Terminal

from semseg_cli.settings.toml_files import preset_names, raw_preset


def test_every_preset_is_listed(terminal: Terminal) -> None:
    done = terminal.type("presets", "list", "--format", "json")
    rows = {row["preset"]: row for row in json.loads(done.out)["rows"]}
    assert sorted(rows) == preset_names()
    assert rows["visaebench-dinov2"]["head"] == "with it"
    assert rows["clip-in1k"]["head"] == "yours"
    assert rows["visaebench-mae"]["vit"] == "facebook/vit-mae-base"
    assert all(row["about"] for row in rows.values())
    assert "visaebench-dinov2-voc" in terminal.type("presets", "list").out


def test_what_is_shown_is_a_settings_file(terminal: Terminal, tmp_path: Path) -> None:
    for name in preset_names():
        done = terminal.type("presets", "show", name)
        assert done.code == 0
        assert tomllib.loads(done.out) == raw_preset(name)


def test_an_unknown_name_gets_the_known_ones(terminal: Terminal) -> None:
    done = terminal.type("presets", "show", "nothing")
    assert done.code == 2
    assert "There is no preset 'nothing': choose one of bioclip-inat21, clip-in1k" in done.err


def test_a_mistyped_name_gets_the_nearest_ones(terminal: Terminal) -> None:
    for words in (["presets", "show", "clipin1k"], ["auto-feat", "--preset", "clipin1k"]):
        done = terminal.type(*words)
        assert done.code == 2
        assert "There is no preset 'clipin1k': did you mean clip-in1k" in done.err


def test_the_list_fits_80_columns_and_breaks_no_word(terminal: Terminal) -> None:
    done = terminal.type("presets", "list")
    rows = json.loads(terminal.type("presets", "list", "--format", "json").out)["rows"]
    shown = done.out.split()
    assert max(map(len, done.out.splitlines())) <= 80
    for row in rows:
        assert {row["preset"], row["head"].split()[0], *row["about"].split()} <= {*shown}
