"""Presets: every one can be read, names known things, and says what it leaves to the user."""

import json
from pathlib import Path

import pytest
import torch
from terminal import Terminal
from worlds import SHARED, World

from semseg_cli.errors import UsageError
from semseg_cli.models.head_download import SERVER
from semseg_cli.models.sae.statistics import check_stats, load_stat
from semseg_cli.models.vit import ALIASES, FAMILIES
from semseg_cli.settings.entries import build
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.toml_files import (
    KNOWN,
    OPEN,
    layered,
    preset_names,
    preset_text,
    read_preset,
)

REAL = ("dinov2-in1k", "dinov3-in1k", "clip-in1k")


def test_the_presets_are_known() -> None:
    assert set(preset_names()) > {"demo", *REAL}


@pytest.mark.parametrize("name", sorted(set(preset_names()) - {"demo"}))
def test_every_preset_begins_with_what_it_is_and_names_a_place_that_can_be_read(
    name: str, tmp_path: Path
) -> None:
    assert preset_text(name).startswith("# ")
    values = read_preset(name, tmp_path)
    assert values["vit_ckpt"].count("/") == 1 or values["vit_ckpt"] in ALIASES
    sae = values.get("sae_ckpt") or values[OPEN]["sae_ckpt"]
    assert sae.startswith("hf://")
    head = values.get("seg_ckpt")
    assert head is None or (head.startswith(SERVER) and "_linear_head.pth" in head)


@pytest.mark.parametrize("name", preset_names())
def test_every_key_is_a_setting_and_no_placeholder_is_left(name: str, tmp_path: Path) -> None:
    values = read_preset(name, tmp_path)
    left_open = values.pop(OPEN, {})
    assert values.keys() <= KNOWN.keys()
    assert left_open.keys() <= KNOWN.keys() - values.keys()
    assert not any("{" in str(value) for value in values.values())
    setup = build(Setup, {KNOWN[key].name: value for key, value in values.items()})
    assert setup.vit_family in FAMILIES


@pytest.mark.parametrize("name", REAL)
def test_the_real_presets_name_hub_files(name: str, tmp_path: Path) -> None:
    values = read_preset(name, tmp_path)
    ckpt = values["vit_ckpt"]
    assert ckpt.count("/") == 1 or ckpt in ALIASES
    assert f"hf://osunlp/SAE_{name[:4].upper()}" in (
        values.get("sae_ckpt") or values[OPEN]["sae_ckpt"]
    ).replace("DINOv", "DINOV")


@pytest.mark.parametrize("name", REAL)
def test_their_scaling_is_complete(name: str, tmp_path: Path) -> None:
    values = read_preset(name, tmp_path)
    given = {key: load_stat(key, values[key]) for key in ("act_mean", "act_norm")}
    checked = check_stats(given, d_model=768, d_sae=10)
    assert checked["act_mean"].shape == (768,)
    if name == "dinov2-in1k":
        assert float(checked["act_norm"]) == pytest.approx(2.018124, abs=1e-6)
        assert int((checked["act_mean"] < -1e-5).sum()) == 517
    else:
        assert float(checked["act_norm"]) == 1
        assert not checked["act_mean"].any()


def test_the_shipped_numbers_are_the_published_ones(tmp_path: Path) -> None:
    published = SHARED / "dinov2_vitb14_reg_in1k_norm.json"
    if not published.is_file():
        pytest.skip(f"needs {published}")
    path = read_preset("dinov2-in1k", tmp_path)["act_mean"]
    numbers, shipped = json.loads(published.read_text()), json.loads(Path(path).read_text())
    for key in ("act_mean", "act_norm"):
        assert torch.equal(torch.tensor(shipped[key]), torch.tensor(numbers[key]))


# --- what is left to the user ---------------------------------------------------------------------

NEEDED = {"sae_ckpt": "sae.pt", "vit_layer": "9"}


def test_what_a_preset_leaves_open_must_be_given() -> None:
    for missing in NEEDED:
        named = {key: value for key, value in NEEDED.items() if key != missing}
        flag = f"--{missing.replace('_', '-')}"
        with pytest.raises(UsageError, match=rf"^The preset dinov3-in1k leaves .* add {flag} \("):
            layered("dinov3-in1k", None, named)
    values = layered("dinov3-in1k", None, NEEDED)
    assert values["vit_family"] == "dinov3"
    assert OPEN not in values


def test_a_settings_file_may_give_it(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('sae_ckpt = "sae.pt"\nvit_layer = 9\n')
    assert layered("dinov3-in1k", str(path), {})["vit_layer"] == 9


def test_a_command_without_the_option_does_not_ask_for_it() -> None:
    assert layered("dinov3-in1k", None, {}, keys=["vit_ckpt"])["vit_family"] == "dinov3"
    with pytest.raises(UsageError, match=r"add --vit-layer \(n \+ 1 of that path\)\.$"):
        layered("dinov3-in1k", None, {}, keys=["vit_ckpt", "vit_layer"])


def test_a_file_of_statistics_wins_over_those_of_a_preset_and_not_over_single_ones(
    tmp_path: Path,
) -> None:
    path = tmp_path / "my.toml"
    path.write_text('stats = "s.safetensors"\nact_norm = 2.0\n')
    from_file = layered("demo", str(path), {})
    assert "act_mean" not in from_file
    assert (from_file["stats"], from_file["act_norm"]) == ("s.safetensors", 2.0)
    typed = layered("demo", str(path), {"stats": "t.safetensors"})
    assert not {"act_mean", "act_norm", "sparsity", "top_values"} & typed.keys()
    assert {"act_mean", "act_norm"} <= layered("demo", None, {}).keys()


def test_the_command_line_says_so_in_one_sentence(terminal: Terminal) -> None:
    done = terminal.type("auto-feat", "--preset", "dinov3-in1k", "--imgs-root", "x")
    assert (done.code, done.out) == (2, "")
    assert "add --sae-ckpt (hf://osunlp/SAE_DINOv3_ViT-B-16_IN1K/layer_<n>/<run>/sae.pt" in done.err
    assert "--vit-layer (n + 1" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_what_every_real_preset_leaves_out_is_named(terminal: Terminal) -> None:
    done = terminal.type("auto-feat", "--preset", "dinov2-in1k")
    assert done.code == 2
    assert "Missing --seg-ckpt, --imgs-root" in done.err


def test_a_preset_runs_with_ones_own_files_in_place_of_its_own(
    tiny_world: World, terminal: Terminal
) -> None:
    """`act_mean = 0` and `act_norm = 1` are then what the SAE is scaled by."""
    parts = {"vit-ckpt": "vit", "sae-ckpt": "sae.pt", "seg-ckpt": "head.pt", "imgs-root": "ade20k"}
    args = [
        arg for key, file in parts.items() for arg in (f"--{key}", f"{tiny_world.folder}/{file}")
    ]
    args += ["--vit-family", "dinov2", "--vit-layer", "2", "--max-freq", "1", "--no-track"]
    done = terminal.type("auto-feat", "--preset", "clip-in1k", *args, "--cache-dir", "cache")
    assert done.code == 0, done.err
    settings = (terminal.runs()[0] / "settings.toml").read_text()
    assert 'act_mean = "0"' in settings
    again = terminal.type("auto-feat", "--config", f"{terminal.runs()[0]}/settings.toml")
    assert (again.code, again.out.splitlines()[3:6]) == (0, done.out.splitlines()[3:6])


# --- --image-size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["0", "x", "14x", "1x2x3", "big", "-14", "14.5"])
def test_an_image_size_that_is_none_exits_2(size: str, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", "--image-size", size)
    assert done.code == 2
    assert f"--image-size is '{size}': give H or HxW in pixels" in done.err


@pytest.mark.parametrize(
    ("size", "sides"), [(96, (96, 96)), ("96", (96, 96)), ("64X160", (64, 160))]
)
def test_image_sizes_are_one_number_or_two(size: int | str, sides: tuple[int, int]) -> None:
    assert Setup(image_size=size).image_hw == sides
    assert Setup().image_hw is None


@pytest.mark.parametrize(("size", "n_patches"), [("96", 9), ('"64x96"', 6)])
def test_a_run_at_another_size_has_other_patches(
    size: str, n_patches: int, tiny_world: World, terminal: Terminal
) -> None:
    files = {"vit_ckpt": "vit", "sae_ckpt": "sae.pt", "seg_ckpt": "head.pt", "imgs_root": "ade20k"}
    lines = [f'{key} = "{tiny_world.folder}/{file}"' for key, file in files.items()]
    lines += [f"image_size = {size}", "vit_layer = 2", "max_freq = 1.0", "label_threshold = 0.2"]
    lines += ["no_track = true", 'cache_dir = "cache"']
    (terminal.folder / "my.toml").write_text("\n".join(lines))
    done = terminal.type("auto-feat", "--config", "my.toml")
    assert done.code == 0, done.err
    report = json.loads((terminal.runs()[0] / "report.json").read_text())
    row = report["class_results"][0]
    assert row["n_orig_patches"] + row["n_other_patches"] == 6 * n_patches
    wrong = terminal.type("auto-feat", "--config", "my.toml", "--image-size", "100")
    assert wrong.code == 1
    assert "32 pixels: try --image-size 96x96" in wrong.err
