"""Commands end to end on small worlds: what they print, leave on disk and in the store."""

import json
import shlex
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from terminal import Done, Terminal, options
from worlds import PLANTED, World

from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.report import Report
from semseg_cli.settings.methods import METHODS, AutoFeat, Method, RandVec

FILES = {
    "report.json", "class_results.csv", "per_image.parquet", "change_matrix.parquet",
    "settings.toml", "run.json", "log.txt",
}  # fmt: skip
PICTURES = {"plots", "report.html"}


def report_of(folder: Path) -> Report:
    return RunFolder(folder).report()


def stored_runs(terminal: Terminal, experiment: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{terminal.folder}/mlflow.db")
    found = client.search_experiments(filter_string=f"name = '{experiment}'")
    return list(client.search_runs([one.experiment_id for one in found])) if found else []


def assert_done(done: Done) -> None:
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("method", "protocol"),
    [(method, protocol) for method in METHODS for protocol in method.protocols],
    ids=lambda one: one if isinstance(one, str) else one.command,
)
def test_every_method_leaves_a_whole_folder_and_a_tracked_run(
    method: type[Method],
    protocol: str,
    request: pytest.FixtureRequest,
    known_world: World,
    tiny_world: World,
    terminal: Terminal,
) -> None:
    # In the known world a class's latent is the only one that detects it.
    world = tiny_world if method().needs_next_best else known_world
    args = options(world, protocol=protocol)
    if is_drawn := method in (AutoFeat, RandVec):  # with latents and without
        request.getfixturevalue("drawn")
    assert_done(terminal.type(method.command, *args))
    (folder,) = terminal.runs()
    expected = FILES | (PICTURES if is_drawn else set())
    expected |= {"lookup.csv"} if method().needs_latents else set()
    expected |= {"stats.safetensors"} if method().needs_statistics else set()
    n_draws = RunFolder(folder).report().n_draws
    expected |= {"draws.csv"} if n_draws > 1 else set()
    shows_latents = is_drawn and method().edits_latents and n_draws == 1
    expected |= {"latents", "top_images.csv"} if shows_latents else set()
    assert {path.name for path in folder.iterdir()} == expected
    report = report_of(folder)
    assert (report.method, report.protocol) == (method.command, protocol)

    (run,) = stored_runs(terminal, "semseg")
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(report.metrics())
    assert run.data.params["vit_layer"] == str(world.vit_layer)
    client = MlflowClient(f"sqlite:///{terminal.folder}/mlflow.db")
    stored = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"report.json", "class_results.json", "settings.toml", "results"} <= stored
    assert PICTURES & stored == PICTURES & expected


def test_auto_feat_flips_planted_classes_and_nothing_else(
    known_world: World, terminal: Terminal
) -> None:
    done = terminal.type("auto-feat", *options(known_world))
    assert_done(done)
    report = report_of(terminal.runs()[0])
    assert report.mean_target_change == 1.0
    assert report.mean_other_change == 0.0
    assert "semseg-cli compare" in done.err
    assert "MLflow:  semseg-cli ui\n" in done.err
    assert " 1.000" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_printed_compare_reads_the_store_of_the_run_whatever_the_environment_names(
    tiny_world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{terminal.folder}/other.db")
    args = options(tiny_world, tracking_uri="sqlite:///mlflow.db")
    done = terminal.type("rand-vec", *args, "--no-plots")
    assert_done(done)
    (line,) = (line for line in done.err.splitlines() if line.startswith("Compare:"))
    shown = terminal.type(*shlex.split(line)[2:], "--format", "csv")
    assert_done(shown)
    assert "rand-vec" in shown.out


def test_parquet_files_hold_the_counts_of_the_report(tiny_world: World, terminal: Terminal) -> None:
    assert_done(terminal.type("auto-feat", *options(tiny_world)))
    (folder,) = terminal.runs()
    report = report_of(folder)
    sums = pd.read_parquet(folder / "per_image.parquet").groupby("class_id").sum(numeric_only=True)
    for result in report.class_results:
        assert sums.loc[result.class_id, "n_changed_patches"] == result.n_changed_patches
        assert sums.loc[result.class_id, "n_other_changed"] == result.n_other_changed
    flow = pd.read_parquet(folder / "change_matrix.parquet")
    assert flow["n_patches"].sum() == sum(r.n_changed_patches for r in report.class_results)


def test_several_scales_in_one_pass_equal_single_runs(
    tiny_world: World, terminal: Terminal
) -> None:
    args = options(tiny_world, select="causal")
    assert_done(terminal.type("auto-feat", *args, "--scale", "-2", "--scale", "3"))
    together = {report_of(f).intervention_scale: report_of(f) for f in terminal.runs()}
    for scale in ("-2", "3"):
        assert_done(terminal.type("auto-feat", *args, "--scale", scale))
        alone = report_of(terminal.runs()[-1])
        assert alone.class_results == together[float(scale)].class_results


def test_settings_toml_repeats_the_run(tiny_world: World, terminal: Terminal) -> None:
    assert_done(terminal.type("auto-feat", *options(tiny_world), "--seed", "7", "--class", "sky"))
    (first,) = terminal.runs()
    assert_done(terminal.type("auto-feat", "--config", str(first / "settings.toml")))
    second = terminal.runs()[-1]
    assert report_of(first) == report_of(second)
    assert tomllib.loads((second / "settings.toml").read_text()) == tomllib.loads(
        (first / "settings.toml").read_text()
    )


@pytest.mark.usefixtures("drawn")
def test_lookup_finds_the_planted_latents_and_can_be_reused(
    known_world: World, terminal: Terminal
) -> None:
    args = options(known_world, select="causal", top_k="2", min_patches="")
    done = terminal.type("lookup", *args)
    assert_done(done)
    (folder,) = terminal.runs()
    table = pd.read_csv(folder / "lookup.csv")
    chosen = table[table["chosen"] == 1].set_index("class_id")["latent"].to_dict()
    assert chosen == PLANTED
    run_id = json.loads((folder / "run.json").read_text())["mlflow_run_id"]
    for source in (str(folder), str(folder / "lookup.csv"), run_id):
        reused = terminal.type("auto-feat", *options(known_world), "--lookup", source)
        assert_done(reused)
        used = terminal.runs()[-1]
        assert (used / "report.html").is_file(), reused.err
        datasets = json.loads((used / "run.json").read_text())["datasets"]
        assert [one["role"] for one in datasets] == ["evaluation", "lookup"]
        assert report_of(used).mean_target_change == 1.0
        assert (used / "lookup.csv").read_text() == (folder / "lookup.csv").read_text()


def test_a_reused_lookup_needs_no_lookup_split(known_world: World, terminal: Terminal) -> None:
    (terminal.folder / "mine.csv").write_text("class_name,latent\nwall,4\n")
    stats = {"sparsity": "ones.json", "top_values": "ones.json"}
    ones = {name: [1.0] * 15 for name in stats}
    (terminal.folder / "ones.json").write_text(json.dumps(ones))
    args = options(known_world, lookup="mine.csv", lookup_split="nowhere", **stats)
    assert_done(terminal.type("auto-feat", *args))
    (result,) = report_of(terminal.runs()[0]).class_results
    assert result.class_name == "wall"


def test_classes_are_chosen_by_name_or_id(known_world: World, terminal: Terminal) -> None:
    args = options(known_world)
    assert_done(terminal.type("auto-feat", *args, "--class", "sky", "--class", "1"))
    report = report_of(terminal.runs()[0])
    assert [result.class_name for result in report.class_results] == ["wall", "sky"]


def test_matched_random_vectors_are_as_long_as_the_automatic_edit(
    tiny_world: World, terminal: Terminal
) -> None:
    assert_done(terminal.type("auto-feat", *options(tiny_world)))
    assert_done(terminal.type("rand-vec", *options(tiny_world), "--match", "norm"))
    auto, control = (report_of(folder) for folder in terminal.runs())
    assert auto.edit_norm is not None
    assert control.edit_norm == pytest.approx(auto.edit_norm, rel=1e-5)
    assert control.is_pooled_telling


def test_several_draws_leave_a_table_of_draws(known_world: World, terminal: Terminal) -> None:
    assert_done(terminal.type("rand-feat", *options(known_world), "--draws", "4"))
    (folder,) = terminal.runs()
    draws = pd.read_csv(folder / "draws.csv")
    assert list(draws["draw"].unique()) == [0, 1, 2, 3]
    assert set(draws["class_id"]) == {0, 1, 2, 3, 4}
    by_class = draws[draws["class_id"] > 0].groupby("draw")["n_changed_patches"].sum()
    pooled = draws[draws["class_id"] == 0].set_index("draw")["n_changed_patches"]
    assert by_class.tolist() == pooled.tolist()
    report = report_of(folder)
    assert pooled.sum() == sum(r.n_changed_patches for r in report.class_results)


def test_a_table_written_by_hand_is_the_manual_feature(
    known_world: World, terminal: Terminal
) -> None:
    text = "class_name,latent,coefficient\nwall,4,1\nwall,9,0\nsky,2,0.5\n"
    (terminal.folder / "mine.csv").write_text(text)
    assert_done(terminal.type("auto-feat", *options(known_world), "--lookup", "mine.csv"))
    (folder,) = terminal.runs()
    report = report_of(folder)
    assert report.method == "manual"
    assert [result.class_name for result in report.class_results] == ["wall", "sky"]
    assert "4+9" in (folder / "class_results.csv").read_text()
    assert json.loads((folder / "run.json").read_text())["run_name"] == "manual x-2"
    assert "select" not in tomllib.loads((folder / "settings.toml").read_text())
    (run,) = stored_runs(terminal, "semseg")
    assert run.data.tags["semseg.method"] == "manual"
    assert_done(terminal.type("compare"))


@pytest.mark.parametrize(
    ("command", "args", "name"),
    [
        ("mean-diff", [], "mean-diff x-2"),
        ("mean-diff", ["--match", "project"], "mean-diff project"),
        ("auto-feat", ["--control", "shuffled"], "auto-feat shuffled x-2"),
        ("auto-feat", ["--top-k-group", "2"], "auto-feat top2 x-2"),
        ("auto-feat", ["--select", "causal"], "auto-feat causal x-2"),
        ("rand-vec", ["--match", "norm"], "rand-vec norm x-2"),
    ],
)
def test_baselines_are_named_and_tracked(
    command: str, args: list[str], name: str, known_world: World, terminal: Terminal
) -> None:
    assert_done(terminal.type(command, *options(known_world), *args))
    (run,) = stored_runs(terminal, "semseg")
    assert run.info.run_name == name
    assert json.loads((terminal.runs()[0] / "run.json").read_text())["run_name"] == name


def test_a_projection_chooses_no_latents(known_world: World, terminal: Terminal) -> None:
    assert_done(terminal.type("mean-diff", *options(known_world), "--match", "project"))
    (folder,) = terminal.runs()
    assert not (folder / "lookup.csv").exists()
    assert "select" not in tomllib.loads((folder / "settings.toml").read_text())
    # Class 5 occurs nowhere: it has no mean.
    assert [r.class_id for r in report_of(folder).class_results] == [1, 2, 3, 4]
    args = [*options(known_world), "--match", "project", "--lookup", "x.csv"]
    done = terminal.type("mean-diff", *args)
    assert done.code == 2
    assert "a projection uses no latents" in done.err


def test_a_projection_has_no_scale(known_world: World, terminal: Terminal) -> None:
    args = ["--match", "project", "--scale", "1", "--scale", "2"]
    done = terminal.type("mean-diff", *options(known_world), *args)
    assert done.code == 2
    assert "a projection has none" in done.err


def test_dry_run_says_the_size_and_leaves_nothing(
    known_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    args = ["auto-feat", *options(known_world, cache_dir=str(tmp_path / "cache"))]
    done = terminal.type(*args, "--dry-run", "--no-cache")
    assert_done(done)
    # 4 images each for statistics, lookup and clean residuals, 3 evaluated;
    # 3 clean tails and 5 classes x 3 images
    assert "passes up to the layer: 15; passes after it: at most 18" in done.out
    assert "keep on disk: none" in done.out
    assert "estimated time" in done.out
    assert terminal.runs() == []
    done = terminal.type(*args, "--dry-run")
    assert "passes up to the layer: 7; passes after it: at most 18" in done.out
    assert "keep on disk: 0.00 GiB" in done.out
    assert not (tmp_path / "cache" / "activations").exists()
    assert_done(terminal.type(*args, "--no-track", "--no-plots"))
    done = terminal.type(*args, "--dry-run")
    assert "passes up to the layer: 0; passes after" in done.out
    assert "keep on disk: all are there already" in done.out


def test_no_track_writes_the_folder_only_and_upload_finishes_it(
    known_world: World, terminal: Terminal
) -> None:
    done = terminal.type("auto-feat", *options(known_world), "--no-track")
    assert_done(done)
    assert stored_runs(terminal, "semseg") == []
    (folder,) = terminal.runs()
    assert_done(terminal.type("upload", str(folder)))
    done = terminal.type("compare", "--format", "csv")
    assert_done(done)
    assert "auto-feat x-2" in done.out


def test_what_is_tracked_besides_is_asked_for(known_world: World, terminal: Terminal) -> None:
    more = ["--log-class-metrics", "--system-metrics", "--scale", "-2", "--scale", "-3"]
    assert_done(terminal.type("auto-feat", *options(known_world), *more))
    newer, first = (run.data.metrics for run in stored_runs(terminal, "semseg"))
    for metrics in (newer, first):
        assert "class/wall/target_change" in metrics
    names = {name for name in {*newer, *first} if name.startswith("system/")}
    assert "system/cpu_utilization_percentage" in names
    assert names <= set(first) or names <= set(newer)
    assert not (set(first) & set(newer) & names)  # one command, one machine


def test_quiet_prints_the_tables_only(known_world: World, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", *options(known_world), "--quiet")
    assert_done(done)
    assert done.err == ""
    assert "target" in done.out


def test_names_and_tags_reach_the_store(known_world: World, terminal: Terminal) -> None:
    names = ["--run-name", "mine", "--tag", "paper=1", "--experiment", "other"]
    assert_done(terminal.type("rand-vec", *options(known_world), *names))
    (run,) = stored_runs(terminal, "other")
    assert run.info.run_name == "mine"
    assert run.data.tags["paper"] == "1"


def test_missing_statistics_are_computed_once(tiny_world: World, terminal: Terminal) -> None:
    cache = terminal.folder / "cache"
    args = options(tiny_world, cache_dir=str(cache))
    assert_done(terminal.type("auto-feat", *args))
    (kept,) = (cache / "stats").glob("*.safetensors")
    made = kept.stat().st_mtime_ns
    assert_done(terminal.type("auto-feat", *args))
    assert [path.stat().st_mtime_ns for path in (cache / "stats").iterdir()] == [made]
    first, second = (report_of(folder) for folder in terminal.runs())
    assert first == second


def test_variables_win_over_files_and_options_over_variables(
    known_world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (terminal.folder / "my.toml").write_text("seed = 1\nmin_patches = 2\nlabel_threshold = 0.5\n")
    monkeypatch.setenv("SEMSEG_SEED", "2")
    monkeypatch.setenv("SEMSEG_MIN_PATCHES", "3")
    args = options(known_world, min_patches="", config="my.toml")
    assert_done(terminal.type("rand-vec", *args, "--seed", "4"))
    used = tomllib.loads((terminal.runs()[0] / "settings.toml").read_text())
    assert (used["seed"], used["min_patches"], used["label_threshold"]) == (4, 3, 0.5)


def test_choosing_on_the_evaluation_split_is_flagged(
    known_world: World, terminal: Terminal
) -> None:
    assert_done(terminal.type("auto-feat", *options(known_world, lookup_split="validation")))
    done = terminal.type("compare")
    assert_done(done)
    assert "evaluat" in done.out
