"""docs/families.md names every family, alias and preset."""

from pathlib import Path

import pytest

from semseg_cli.models.vit import FAMILIES
from semseg_cli.settings.toml_files import preset_names, read_preset

PAGE = (Path(__file__).parents[1] / "docs" / "families.md").read_text("utf-8")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_section_and_its_facts(name: str) -> None:
    family = FAMILIES[name]
    assert f"\n## {name}\n" in PAGE.lower()
    for model_type in family.model_types:
        assert f"`{model_type}`" in PAGE
    for alias in family.aliases:
        size = alias.removeprefix("dinov2_vit")[:1]
        family_alias = alias.replace(f"vit{size}14", "vit{s,b,l,g}14")
        assert f"`{alias}`" in PAGE or f"`{family_alias}`" in PAGE


@pytest.mark.parametrize("name", sorted(set(preset_names()) - {"demo"}))
def test_every_preset_is_in_the_table(name: str, tmp_path: Path) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    assert f"`{read_preset(name, tmp_path)['vit_ckpt']}`" in row
