"""From Python: the same numbers as the commands, from files and from objects in memory."""

import logging
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from held import OwnSae, common, data_of, head_of, held, named, pictures_of, vit_of
from terminal import Terminal, options
from torch import nn
from worlds import FIRST_NAMES, PLANTED, World, count_images, make_sae

import semseg_cli
from semseg_cli import Data
from semseg_cli.data.preprocessing import Preprocessing, class_tensor, image_tensor
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.models.sae import load as load_sae
from semseg_cli.models.sae.statistics import load_stat
from semseg_cli.models.vit import of_model
from semseg_cli.settings.controls import RandFeat
from semseg_cli.settings.methods import AutoFeat, Method

NUMBERS = ("report.json", "class_results.csv", "per_image.parquet", "change_matrix.parquet")


def assert_same_files(one: Path | None, other: Path, names: tuple[str, ...] = NUMBERS) -> None:
    assert one is not None
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


# --- the same numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [named, held], ids=["files", "objects"])
def test_numbers_are_those_of_the_command(
    parts: Any, tiny_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    assert terminal.type("auto-feat", *options(tiny_world), "--no-track", "--no-plots").code == 0
    (folder,) = terminal.runs()
    result = semseg_cli.run("auto-feat", dump_to=tmp_path / "mine", **parts(tiny_world))
    assert_same_files(result.folder, folder, (*NUMBERS, "lookup.csv", "stats.safetensors"))
    assert (result.folder / "report.html").exists()  # type: ignore[operator]


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, list])
def test_statistics_in_memory_are_those_of_a_file(
    kind: Any, known_world: World, tmp_path: Path
) -> None:
    of_file = named(known_world)
    mean = kind(load_stat("act_mean", str(of_file["act_mean"])).tolist())
    scaled = {**of_file, "act_mean": mean, "act_norm": np.float32(of_file["act_norm"])}
    runs = [
        semseg_cli.run("auto-feat", dump_to=tmp_path / str(i), no_plots=True, **parts)
        for i, parts in enumerate((of_file, scaled))
    ]
    assert_same_files(runs[1].folder, runs[0].folder)  # type: ignore[arg-type]
    settings = tomllib.loads((runs[1].folder / "settings.toml").read_text())  # type: ignore[operator]
    assert Path(settings["act_mean"]).is_file()


def test_statistics_in_memory_lie_in_the_cache_that_a_settings_file_names(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    cache = tmp_path / "cache"
    config = tmp_path / "mine.toml"
    config.write_text(f'cache_dir = "{cache}"\n')
    parts = named(tiny_world)
    del parts["cache_dir"]
    mean = {"act_mean": [0.0] * load_sae(tiny_world.folder / "sae.pt").d_model}
    for call in (semseg_cli.run, semseg_cli.lookup):
        own = {
            key: value
            for key, value in parts.items()
            if call is semseg_cli.run or key != "min_patches"
        }
        call(config=config, **{**own, **mean})
        (kept,) = (cache / "stats" / "given").iterdir()
        kept.unlink()
    assert not (tmp_path / "usual").exists()


@pytest.mark.parametrize(
    ("given", "control"), [({}, "none"), ({}, "random"), ({"act_norm": 1.5}, "none")]
)
def test_only_statistics_that_were_named_are_told_as_given(
    given: dict[str, float],
    control: Any,
    tiny_world: World,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The format of a module has a scaling of its own, which nobody gave."""
    parts = {**named(tiny_world), "sae": OwnSae(tiny_world), "cache_dir": tmp_path, **given}
    semseg_cli.run("auto-feat", control=control, **parts)
    told = [one.getMessage() for one in caplog.records if "Of the statistics" in one.getMessage()]
    assert [one.split(" are given")[0] for one in told] == [
        f"Of the statistics {name}" for name in given
    ]


@pytest.mark.parametrize("mean", [["a"], [[1.0], [1.0, 2.0]], ["x"] * 500])
def test_statistics_that_are_no_numbers_are_a_sentence(mean: Any, tiny_world: World) -> None:
    parts = {**named(tiny_world), "act_mean": mean}
    with pytest.raises(UsageError, match="act_mean does not hold numbers: give a tensor"):
        semseg_cli.run("auto-feat", **parts)


def test_many_numbers_for_one_are_not_all_repeated(tiny_world: World) -> None:
    with pytest.raises(UsageError, match=r"seed is tensor\(.*\.\.\..*: give int") as told:
        semseg_cli.run("auto-feat", **named(tiny_world), seed=torch.arange(900))
    assert len(str(told.value)) < 100


def test_several_methods_share_one_pass_and_have_the_numbers_of_each_alone(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = ["auto-feat", "rand-feat", "mean-diff"]
    seen: list[list[int]] = []
    made = of_model.Backbone

    def counted(*args: Any) -> Any:
        vit = made(*args)
        seen.append(count_images(vit, monkeypatch))
        return vit

    monkeypatch.setattr(of_model, "Backbone", counted)
    parts = {**held(tiny_world), "no_cache": True, "seed": 3}
    together = semseg_cli.run(methods, dump_to=tmp_path / "all", no_plots=True, **parts)
    n_together = sum(seen[0])
    alone = [semseg_cli.run(one, dump_to=tmp_path / one, no_plots=True, **parts) for one in methods]
    assert n_together < sum(map(sum, seen[1:]))
    for one, run in zip(alone, together, strict=True):
        assert_same_files(run.folder, one.folder)  # type: ignore[arg-type]


def test_a_module_of_ones_own_flips_planted_classes_and_nothing_else(known_world: World) -> None:
    """Its latents and its decoder are found out; the planted answers are known."""
    parts = {**held(known_world), "sae": OwnSae(known_world)}
    result = semseg_cli.run("auto-feat", **parts)
    report = result.report
    assert (report.mean_target_change, report.mean_other_change) == (1.0, 0.0)
    latents = {row["class_id"]: int(row["latent"]) for row in result.only.rows if row["latent"]}
    assert latents == {**PLANTED, **{c: v for c, v in latents.items() if c not in PLANTED}}


@pytest.mark.parametrize("select", ["f1", "cause"])
def test_a_module_counts_as_its_file_does(select: str, tiny_world: World) -> None:
    """The file's input scaling is said; all counts and edits are those of the file."""
    given = {**named(tiny_world), "act_mean": 0.0, "act_norm": 1.0, "select": select}
    of_file = semseg_cli.run(["auto-feat", "ablate"], **given)
    of_module = semseg_cli.run(["auto-feat", "ablate"], **{**given, "sae": OwnSae(tiny_world)})
    for one, other in zip(of_file, of_module, strict=True):
        expected, found = one.to_frame(), other.to_frame()
        counts = [name for name in expected if str(name).startswith("n_")]
        assert counts
        pd.testing.assert_frame_equal(found[counts], expected[counts])
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_a_head_without_null_is_one_whose_null_was_cut_off(tiny_world: World) -> None:
    whole = head_of(tiny_world)
    cut = nn.Linear(whole.in_features, whole.out_features - 1)
    cut.load_state_dict({"weight": whole.weight[1:], "bias": whole.bias[1:]})
    parts = held(tiny_world)
    expected = semseg_cli.run("head-direction", **parts).report
    found = semseg_cli.run("head-direction", **{**parts, "head": cut, "has_null": False}).report
    assert found.class_results == expected.class_results
    with pytest.raises(UsageError, match="has_null=False"):
        semseg_cli.run("head-direction", **{**parts, "head": cut})


# --- nothing of the user's is changed ----------------------------------------------------------


def test_objects_are_left_as_they_were(tiny_world: World) -> None:
    vit, sae, head = vit_of(tiny_world).train(), OwnSae(tiny_world).train(), head_of(tiny_world)
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    parts = {"vit": vit, "sae": sae, "head": head, "data": data_of(tiny_world)}
    semseg_cli.run("auto-feat", **parts, **common(tiny_world))
    assert vit.training
    assert sae.training
    assert all(p.requires_grad for part in (vit, sae, head) for p in part.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in vit.state_dict().items())


def test_a_model_is_left_as_it_was_after_an_error(tiny_world: World) -> None:
    vit = vit_of(tiny_world).train()
    with pytest.raises(SemsegError, match="Layer 9 does not exist"):
        semseg_cli.run("rand-vec", **{**held(tiny_world), "vit": vit, "vit_layer": 9})
    assert vit.training
    assert all(parameter.requires_grad for parameter in vit.parameters())


def test_nothing_is_written_unless_asked_for(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = semseg_cli.run("rand-vec", **held(tiny_world))
    assert result.folder is None
    del result
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="give dump_to="):
        semseg_cli.run("rand-vec", examples=1, **held(tiny_world))
    assert list(tmp_path.iterdir()) == []


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("drawn")
def test_prepared_images_have_the_pictures_of_those_they_are_made_from(
    known_world: World, tmp_path: Path
) -> None:
    parts = held(known_world)
    labels, seen = parts["data"].labels, Preprocessing()
    prepared: dict[str, Any] = {
        split: [
            {
                "image": image_tensor(image, seen),
                "mask": class_tensor(mask, labels, seen),
                "name": Path(image.filename).stem,  # type: ignore[attr-defined]
            }
            for image, mask in pictures_of(known_world, split)
        ]
        for split in ("training", "validation")
    }
    usual, own = (
        semseg_cli.run(
            "auto-feat", examples=1, dump_to=tmp_path / str(i), **{**parts, "data": data}
        )
        for i, data in enumerate((parts["data"], Data(FIRST_NAMES, **prepared, prepared=True)))
    )
    assert usual.folder is not None
    pictures = [*usual.folder.glob("latents/*"), *usual.folder.glob("examples/*")]
    assert len(pictures) == len(PLANTED) + 2
    names = tuple(str(path.relative_to(usual.folder)) for path in pictures)
    assert_same_files(own.folder, usual.folder, (*names, "top_images.csv"))


# --- warnings ------------------------------------------------------------------------------------


def test_why_a_class_has_no_latent_is_said_once_for_each_autoencoder(
    known_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {k: value for k, value in named(known_world).items() if k != "max_freq"}
    methods: list[Method] = [
        AutoFeat(max_freq=1.0),
        RandFeat(max_freq=1.0),
        AutoFeat(max_freq=1.0, control="shuffled"),
    ]
    semseg_cli.run(methods, lookup_images=9999, **parts)
    said = [one.getMessage() for one in caplog.records if "no latent" in one.getMessage()]
    why = (
        "no patch of the lookup split has the class on at least 0.9 of its pixels (try a smaller "
        "--label-threshold)."
    )
    assert said == [f"floor has no latent{of}: {why}" for of in ("", " of the null SAE shuffled")]


def test_the_level_of_the_logger_is_the_users(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("semseg_cli")
    monkeypatch.setattr(log, "level", logging.ERROR)
    semseg_cli.run("rand-vec", **held(tiny_world))
    assert log.level == logging.ERROR


# --- tracking, lookups --------------------------------------------------------------------------


def test_tracked_runs_are_those_that_compare_finds(tiny_world: World, terminal: Terminal) -> None:
    result = semseg_cli.run(["auto-feat", "rand-feat"], track=True, **held(tiny_world))
    assert [run.folder and run.folder.exists() for run in result] == [True, True]
    done = terminal.type("compare", "--format", "csv")
    assert done.code == 0, done.err
    assert set(result.runs) == {"auto-feat x-2", "rand-feat x-2"}
    assert all(name in done.out for name in result.runs)


def test_a_lookup_is_that_of_the_command_and_can_be_used(
    tiny_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    args = options(tiny_world, min_patches="")
    assert terminal.type("lookup", *args, "--no-track", "--no-plots").code == 0
    (folder,) = terminal.runs()
    parts = {k: v for k, v in held(tiny_world).items() if k != "min_patches"}
    found = semseg_cli.lookup(dump_to=tmp_path / "mine", **parts)
    assert_same_files(found.folder, folder, ("lookup.csv", "stats.safetensors"))
    by_path = semseg_cli.run("auto-feat", lookup=folder, **held(tiny_world))
    unwritten = semseg_cli.lookup(**parts)
    by_object = semseg_cli.run("auto-feat", lookup=unwritten, **held(tiny_world))
    assert by_object.report == by_path.report
    assert unwritten.folder is None
    used = {r["class_name"]: int(r["latent"]) for r in by_path.only.rows if r.get("latent")}
    assert {name: latents[0] for name, latents in unwritten.latents.items()} == used


# --- settings -----------------------------------------------------------------------------------


def test_methods_take_their_settings_by_name_or_as_objects(known_world: World) -> None:
    parts = named(known_world)
    by_name = semseg_cli.run("auto-feat", scale=[-1, -2], **parts)
    assert list(by_name.runs) == ["auto-feat x-1", "auto-feat x-2"]
    objects: list[Method] = [AutoFeat(scale=(-1.0,), max_freq=1.0), RandFeat(draws=2, max_freq=1.0)]
    given = {name: value for name, value in parts.items() if name != "max_freq"}
    by_object = semseg_cli.run(objects, **given)
    assert (
        by_object["auto-feat"].report.class_results == by_name["auto-feat x-1"].report.class_results
    )
    assert by_object["rand-feat"].report.n_draws == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "auto-feats"}, "There is no method 'auto-feats'"),
        ({"method": "lookup"}, "semseg_cli.lookup makes lookups"),
        ({"method": []}, "No method is given"),
        ({"scal": -1}, "There is no option 'scal': did you mean scale"),
        ({"dry_run": True}, "There is no option 'dry_run'"),
        ({"draws": 2}, "There is no option 'draws'"),  # of another method
        ({"batch_size": "many"}, "batch_size is 'many': give int"),
        ({"scale": -11}, "scale is -11.0: give a number from -10 to 10"),
        ({"imgs_root": "there"}, "imgs_root and data are both given"),
        ({"data": [1]}, "data is a list: give a path or Data"),
        ({"sae": 3}, "sae is a int: give a path or an nn.Module"),
        ({"vit": nn.Linear(2, 2)}, "The ViT in memory is a 'Linear' model"),
        ({"dtype": "bfloat16"}, "move it by vit.to"),
        ({"background": True}, "background is about files"),
        ({"head": nn.ReLU()}, "The head is a ReLU: give an nn.Linear"),
        ({"imgs_split": "test"}, "has no split 'test', only training, validation"),
        (
            {"method": ["rand-vec", "auto-feat"], "run_name": "one"},
            "run_name names the runs of one",
        ),
        ({"sae": make_sae(d_model=8)}, "The SAE reads width 8, the ViT has width 24"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    changes: dict[str, Any], said: str, tiny_world: World
) -> None:
    call = {"method": "auto-feat", **held(tiny_world), **changes}
    with pytest.raises(SemsegError, match=said):
        semseg_cli.run(**call)


def test_a_part_without_its_object_refuses_what_only_objects_have(tiny_world: World) -> None:
    with pytest.raises(UsageError, match="processor is given"):
        semseg_cli.run("rand-vec", processor=object(), **named(tiny_world))
    with pytest.raises(UsageError, match="has_null is about a head in memory"):
        semseg_cli.run("rand-vec", has_null=False, **named(tiny_world))


def test_hooks_on_a_model_are_refused(tiny_world: World) -> None:
    parts = held(tiny_world)
    parts["vit"].encoder.layer[0].register_forward_hook(lambda *_: None)
    with pytest.raises(SemsegError, match=r"forward hooks \(encoder.layer.0\)"):
        semseg_cli.run("rand-vec", **parts)


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import sys, semseg_cli; assert 'torch' not in sys.modules; "
        "assert {'run', 'lookup', 'Data'} <= set(dir(semseg_cli)); "
        "assert not hasattr(semseg_cli, 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert callable(semseg_cli.run)
