"""Settings as flat names: there and back, for every settings class."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from semseg_cli.settings.base import Settings
from semseg_cli.settings.entries import build, entries, flatten, item_type
from semseg_cli.settings.inputs import Setup, StatsSetup, TrainSetup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS, AutoFeat
from semseg_cli.settings.output import Output, Recorded, Shown
from semseg_cli.settings.reference import Quantitative
from semseg_cli.settings.training import KeepStats, Training

MADE: list[type[Settings]] = [StatsSetup, KeepStats, TrainSetup, Training, Recorded]
CLASSES = [Setup, Choose, *METHODS, Output, Shown, Quantitative, *MADE]


def value_of(f: Any) -> st.SearchStrategy[Any]:
    """Any allowed value of a field."""
    low = f.metadata.get("ge")
    low = f.metadata.get("gt") if low is None else low
    high = f.metadata.get("le")
    kind, is_repeated = item_type(f)
    text = st.text("abc/.-_ =0", min_size=1, max_size=8)
    made: st.SearchStrategy[Any]
    if get_origin(kind) is not None:
        made = st.sampled_from(get_args(kind))
    elif kind is bool:
        made = st.booleans()
    elif kind is int:
        made = st.integers(low or 0, high or 1000)
    elif kind is float:
        made = st.floats(low if low is not None else -99, high if high is not None else 99,
                         exclude_min=f.metadata.get("gt") is not None)  # fmt: skip
    elif kind is Path:
        made = text.map(lambda t: Path("nowhere") / t.replace("/", ""))
    elif f.name == "image_size":
        made = st.sampled_from(["448", "320x512"])
    elif f.name == "other_images":
        made = st.sampled_from(["auto", "all", "40"])
    else:
        made = text.map(lambda t: f"nowhere/k={t}")
    if is_repeated:
        # A default says that one value is needed.
        least = 1 if f.default else 0
        return st.lists(made, min_size=least, max_size=3, unique=True).map(tuple)
    return made | st.none() if type(None) in get_args(f.type) else made


def instances(cls: type[Settings]) -> st.SearchStrategy[Any]:
    made = {}
    for f in fields(cls):
        is_nested = isinstance(f.type, type) and issubclass(f.type, Settings)
        made[f.name] = instances(f.type) if is_nested else value_of(f)  # type: ignore[arg-type]
    if "match" in made:  # some matches bound the scale
        made["match"] = st.just(cls().match)  # type: ignore[attr-defined]
    if "control" in made:  # some have latents of their own
        made["control"] = st.sampled_from(["none", "shuffled"])
    if "no_track" in made:  # it excludes what is about tracking
        made["no_track"] = st.just(False)
    if "no_plots" in made:  # excludes examples
        made["no_plots"] = st.just(False)
    if "save" in made:  # its ending says the format
        made["save"] = st.none() | st.just(Path("nowhere.safetensors"))
    return st.builds(cls, **made)


def rebuilt(cls: type[Settings], flat: dict[str, Any]) -> Settings:
    names = {entry.key: entry.name for entry in entries(cls)}
    return build(cls, {names[key]: value for key, value in flat.items()})


@pytest.mark.parametrize("cls", CLASSES)
def test_settings_round_trip_through_a_toml_file(cls: type[Settings]) -> None:
    @given(instances(cls))
    @settings(max_examples=15, deadline=None)
    def check(made: Settings) -> None:
        text = tomli_w.dumps(flatten(made))
        assert rebuilt(cls, tomllib.loads(text)) == made

    check()


@pytest.mark.parametrize("cls", CLASSES)
def test_keys_and_names_are_unique(cls: type[Settings]) -> None:
    found = list(entries(cls))
    assert len({e.key for e in found}) == len({e.name for e in found}) == len(found)
    assert all(e.flag == "--" + e.key.replace("_", "-") for e in found)


def test_nested_settings_come_with_their_fields_name_in_front() -> None:
    keys = {entry.key: entry.name for entry in entries(Setup)}
    assert keys["imgs_root"] == "imgs_root"
    assert keys["class"] == "classes"
    assert keys["workers"] == "n_workers"


def test_paths_that_exist_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sae.pt").write_text("")
    flat = flatten(Setup(sae_ckpt="sae.pt", seg_ckpt="nowhere.pt"))
    assert flat["sae_ckpt"] == str(tmp_path / "sae.pt")
    assert flat["seg_ckpt"] == "nowhere.pt"
    assert "vit_ckpt" not in flat


def test_the_type_of_one_value() -> None:
    by_key = {e.key: item_type(e.field) for cls in (Setup, AutoFeat) for e in entries(cls)}
    assert by_key["scale"] == (float, True)
    assert by_key["class"] == (str, True)
    assert by_key["imgs_root"] == (Path, False)
    assert by_key["act_norm"] == (str, False)
    assert by_key["images"] == (int, False)
