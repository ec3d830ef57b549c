"""`stats` end to end: the engine's numbers, in files that other commands take."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from terminal import Done, Terminal, options
from test_cli import assert_done, report_of, stored_runs
from worlds import World

from semseg_cli.commands.stats import options_of
from semseg_cli.engine.sae_statistics import compute_stats
from semseg_cli.models import sae as saes
from semseg_cli.models.sae.statistics import NAMES, load_stat
from semseg_cli.runs.metrics import STATISTICS
from semseg_cli.settings.entries import entries
from semseg_cli.settings.training import KeepStats

NOT_ASKED = {"seg_ckpt": "", "max_freq": "", "min_patches": ""}


def stats(terminal: Terminal, world: World, *args: str, **changes: str) -> Done:
    return terminal.type("stats", *options(world, **NOT_ASKED, **changes), *args)


def test_the_file_holds_what_the_engine_computes(tiny_world: World, terminal: Terminal) -> None:
    assert_done(stats(terminal, tiny_world, "--save", "made/stats.safetensors"))
    (folder,) = terminal.runs()
    session = tiny_world.session()
    pipeline, loader = session.pipeline, session.loader(session.lookup_dataset)
    expected = compute_stats(pipeline.residuals(loader), pipeline.sae).to_tensors()
    for path in (folder / "stats.safetensors", Path("made/stats.safetensors")):
        made = load_file(path)
        assert made.keys() == expected.keys() == set(NAMES)
        for name, tensor in made.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_a_file_of_that_name_is_kept(tiny_world: World, terminal: Terminal) -> None:
    old = Path("mine.safetensors")
    old.write_bytes(b"precious")
    os.utime(old, (0, 0))
    done = stats(terminal, tiny_world, "--save", str(old))
    assert_done(done)
    (kept,) = Path().glob("mine.*-*.safetensors")
    assert kept.read_bytes() == b"precious"
    assert load_file(old).keys() == set(NAMES)
    assert f"mine.safetensors was there already: it is kept as {kept}." in done.err
    again = stats(terminal, tiny_world, "--save", str(old))
    assert_done(again)
    assert list(Path().glob("mine.*-*.safetensors")) == [kept]  # the new file is the old one
    assert "was there already" not in again.err


def test_the_summary_of_the_known_world(known_world: World, terminal: Terminal) -> None:
    """Each patch holds one of four planted directions, of fifteen."""
    done = stats(terminal, known_world, "--format", "json")
    assert_done(done)
    (folder,) = terminal.runs()
    whole = json.loads((folder / "stats.json").read_text())
    summary = whole["summary"]
    assert (summary["n_alive"], summary["dead_share"]) == (4, 1 - 4 / 15)
    assert set(summary) == {metric.key for metric in STATISTICS}
    assert summary["l0"] == pytest.approx(1.0)
    assert (summary["n_images"], summary["n_patches"]) == (4, 4 * 16)
    assert whole["digests"].keys() == {"sae", "vit", "lookup"}
    assert whole["act_mean"] == [0.0] * 16
    tables = json.loads(done.out)["tables"]
    assert [table["title"] for table in tables] == [
        "Statistics", "Reconstruction in place of the residual"
    ]  # fmt: skip
    assert [table["rows"] for table in tables] == [[summary], whole["splices"]]
    (run,) = stored_runs(terminal, "semseg")
    assert run.data.tags["semseg.kind"] == "stats"
    assert run.data.metrics["l0"] == summary["l0"]
    assert run.data.params["vit_layer"] == "1"
    assert not {"imgs_split", "seg_ckpt", "class"} & run.data.params.keys()


def test_with_a_head_it_says_what_the_reconstruction_does(
    known_world: World, terminal: Terminal
) -> None:
    asked = {"max_freq": "", "min_patches": ""}
    done = terminal.type("stats", *options(known_world, **asked))
    assert_done(done)
    assert "Reconstruction in place of the residual" in done.out
    (folder,) = terminal.runs()
    splices = json.loads((folder / "stats.json").read_text())["splices"]
    assert [row["dictionary"] for row in splices] == ["SAE", "PCA"]
    classes = pd.read_csv(folder / "splice.csv")
    assert classes["class_id"].tolist() == [1, 2, 3, 4]
    assert classes["kept"].tolist() == [1.0] * 4
    assert not classes["lost"].any()
    (run,) = stored_runs(terminal, "semseg")
    assert run.data.metrics["unchanged"] == 1.0
    assert run.data.metrics["pca_unchanged"] == splices[1]["unchanged"]
    without = stats(terminal, known_world)
    assert "takes a head: --seg-ckpt" in without.out
    assert not (terminal.runs()[-1] / "splice.csv").exists()


@pytest.mark.parametrize("form", ["safetensors", "reference", "json", "folder"])
def test_the_files_feed_back(form: str, tiny_world: World, terminal: Terminal) -> None:
    args = ["--save", "stats.safetensors", "--reference-names", "reference"]
    done = stats(terminal, tiny_world, *args)
    assert_done(done)
    (folder,) = terminal.runs()
    given = options_of(Path("stats.safetensors"))
    assert " ".join(given) in done.err
    if form == "reference":
        given = [part for n in NAMES for part in (f"--{n.replace('_', '-')}", f"reference/{n}.pt")]
    if form == "json":
        json_file = str(folder / "stats.json")
        given += ["--act-mean", json_file, "--act-norm", json_file]
    if form == "folder":
        given = ["--stats", str(folder)]
    computed, fed = (
        terminal.type("auto-feat", *options(tiny_world), *more, "--no-plots", "--no-track")
        for more in ([], given)
    )
    assert_done(computed)
    assert_done(fed)
    first, second = (report_of(path) for path in terminal.runs()[-2:])
    assert first == second


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_file_of_some_statistics_is_used_and_the_rest_computed(
    suffix: str, tiny_world: World, terminal: Terminal
) -> None:
    own = 3.0 if suffix == "json" else 4.0  # other statistics than those that are kept by now
    some = {"act_mean": torch.full((24,), 0.25), "act_norm": torch.tensor(own)}
    save_file(some, "some.safetensors")
    Path("some.json").write_text(json.dumps({n: v.tolist() for n, v in some.items()}))
    file = f"some.{suffix}"
    single = ["--act-mean", file, "--act-norm", file]
    for given in (["--stats", file], single):
        done = terminal.type("auto-feat", *options(tiny_world), *given, "--no-track")
        assert_done(done)
        said = "act_mean, act_norm are given; sparsity, top_values are computed, once, on the 7"
        log = (terminal.runs()[-1] / "log.txt").read_text()
        assert (said in log) == (given != single)  # they are kept
    first, second = terminal.runs()[-2:]
    assert report_of(first) == report_of(second)
    made, same = (load_file(path / "stats.safetensors") for path in (first, second))
    assert torch.equal(made["act_mean"], some["act_mean"])
    assert all(torch.equal(made[name], same[name]) for name in NAMES)
    told = terminal.type("auto-feat", *options(tiny_world), "--stats", file, "--sparsity", file)
    assert told.code == 1
    assert "The statistic sparsity cannot be read" in told.err


@pytest.mark.parametrize("of", [{"weight": [1.0]}, [1.0], None])
def test_a_file_of_no_statistics_is_refused(of: Any, tiny_world: World, terminal: Terminal) -> None:
    if of is not None:
        Path("none.json").write_text(json.dumps(of))
    done = terminal.type("auto-feat", *options(tiny_world), "--stats", "none.json")
    assert done.code == 1
    assert done.err.startswith("semseg-cli: --stats: ")
    assert "none.json" in done.err
    assert "give a .safetensors or .json file " in done.err
    assert "number for a scalar" not in done.err


def test_the_reference_names_are_plain_tensors(tiny_world: World, terminal: Terminal) -> None:
    assert_done(stats(terminal, tiny_world, "--reference-names", "deep/er", "--no-track"))
    (folder,) = terminal.runs()
    assert {path.name for path in Path("deep/er").iterdir()} == {f"{name}.pt" for name in NAMES}
    for name, tensor in load_file(folder / "stats.safetensors").items():
        read = torch.load(f"deep/er/{name}.pt", weights_only=True)
        assert torch.equal(read, tensor)
        assert torch.equal(load_stat(name, f"deep/er/{name}.pt"), tensor)


def test_they_are_computed_once(tiny_world: World, terminal: Terminal) -> None:
    args = ["--cache-dir", "cache", "--no-track"]
    assert_done(stats(terminal, tiny_world, *args, cache_dir=""))
    (kept,) = Path("cache/stats").iterdir()
    made = kept.stat().st_mtime_ns
    assert_done(stats(terminal, tiny_world, *args, cache_dir=""))
    assert [path.stat().st_mtime_ns for path in Path("cache/stats").iterdir()] == [made]
    first, second = ((p / "stats.safetensors").read_bytes() for p in terminal.runs())
    assert first == second


def test_what_was_given_is_kept_and_said(known_world: World, terminal: Terminal) -> None:
    done = stats(terminal, known_world)
    assert_done(done)
    assert "Given, not computed: act_mean, act_norm." in done.out
    (folder,) = terminal.runs()
    assert json.loads((folder / "stats.json").read_text())["act_norm"] == 2.0


def test_dry_run_says_the_size_and_leaves_nothing(known_world: World, terminal: Terminal) -> None:
    done = stats(terminal, known_world, "--dry-run")
    assert_done(done)
    assert "images: 4; given: act_mean, act_norm" in done.out
    assert re.search(r"estimated time: [\d.]+ (s|minutes) on cpu", done.out)
    assert terminal.runs() == []


def test_compare_shows_interventions_only(known_world: World, terminal: Terminal) -> None:
    assert_done(stats(terminal, known_world))
    assert_done(terminal.type("auto-feat", *options(known_world), "--no-plots"))
    done = terminal.type("compare", "--format", "csv")
    assert_done(done)
    assert "auto-feat" in done.out
    assert "stats" not in done.out


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--save", "x.pt"], 2, "--save is 'x.pt': give a name that ends in .safetensors."),
        (["--save", "file/x.safetensors"], 1, "give another --save"),
        (["--reference-names", "file"], 1, "give another --reference-names"),
        (["--sae-ckpt", "no"], 1, "The SAE file no cannot be read"),
        (["--lookup-split", "nowhere"], 1, "nowhere"),
        (["--vit-layer", "9"], 1, "Layer 9 does not exist"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    args: list[str], code: int, sentence: str, tiny_world: World, terminal: Terminal
) -> None:
    Path("file").write_text("")
    done = stats(terminal, tiny_world, *args)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert terminal.runs() == []


def test_missing_inputs_are_named(terminal: Terminal) -> None:
    Path("my.toml").write_text("seed = 1\n")
    done = terminal.type("stats", "--config", "my.toml")
    assert done.code == 2
    assert "Missing --vit-ckpt, --sae-ckpt, --imgs-root: name them all" in done.err


def test_every_setting_is_an_option(terminal: Terminal) -> None:
    done = terminal.type("stats", "--help-all")
    assert all(f"{entry.flag} " in done.out for entry in entries(KeepStats))
    assert "--class" not in done.out


def test_a_format_without_scaling_is_scaled_by_what_is_measured(
    tiny_world: World, terminal: Terminal
) -> None:
    sae = saes.load(tiny_world.folder / "sae.pt")
    sae.needs_scaling = False
    saes.save(Path("plain.pt"), sae)
    measured = ["--act-mean", "measured", "--act-norm", "measured"]
    plain, scaled = (
        stats(terminal, tiny_world, *args, sae_ckpt="plain.pt") for args in ([], measured)
    )
    usual = stats(terminal, tiny_world)
    assert all(done.code == 0 for done in (plain, scaled, usual)), scaled.err
    assert "Its input is not scaled" in plain.out
    assert "Given, not computed" not in plain.out + scaled.out
    assert "not scaled" not in scaled.out
    made = [load_file(folder / "stats.safetensors") for folder in terminal.runs()]
    assert not made[0]["act_mean"].any()
    assert {name: made[1][name].tolist() for name in NAMES} == {
        name: made[2][name].tolist() for name in NAMES
    }
