"""Everything a user can choose: dataclasses, options, TOML, presets; standard library only."""
