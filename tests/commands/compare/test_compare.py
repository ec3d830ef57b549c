"""`compare`: which runs it takes, what it shows of them and what it says about them."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow_store as stores
import pytest
from run_folders import fill, make_folder, make_report

from semseg_cli import tracking
from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.command import compare
from semseg_cli.commands.compare.run_kinds import method_name
from semseg_cli.commands.compare.settings_apart import differing, settings_notes
from semseg_cli.commands.compare.table_of_runs import comparison, row_names
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.settings.compare import Compare, View
from semseg_cli.settings.methods import FORMER, METHODS, AutoFeat, MeanDiff, RandFeat, RandVec
from semseg_cli.settings.output import FORMATS
from semseg_cli.show.tables import Table, render
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, RunFolder]]:
    """A store in which three methods ran, one of them twice; one run failed, one goes on."""
    root = tmp_path_factory.mktemp("store")
    uri = stores.new_store(root)
    wanted: dict[str, dict[str, Any]] = {
        "old": {"changed": 70},
        "auto": {},
        "strong": {"scale": -5.0, "changed": 95},
        "feat": {"command": "rand-feat", "changed": 10},
        "vec": {"command": "rand-vec", "changed": 20},
        "failed": {"status": "FAILED"},
        "elsewhere": {"experiment": "other", "changed": 80},
        "mean": {"command": "mean-diff", "experiment": "third"},
    }
    folders = {
        name: stores.stored(uri, make_folder(root / "runs", **options))
        for name, options in wanted.items()
    }
    folders["running"] = make_folder(root / "runs", status=None)
    tracking.start(uri, [folders["running"]])
    return uri, folders


def _ids(folders: dict[str, RunFolder], *names: str) -> list[str]:
    return [folders[name].meta["mlflow_run_id"] for name in names]


def _end(folder: RunFolder) -> str:
    """What tells the folder's name from others."""
    return folder.path.name.rpartition("-")[2]


def test_the_table_is_pinned(store: tuple[str, dict[str, RunFolder]]) -> None:
    end = _end(store[1]["feat"])
    assert render(compare(Compare(tracking_uri=store[0]))) == (
        "4 runs of experiment semseg: 4 images, 2 classes\n"
        "                       macro  macro        macro         vs    edit\n"
        "run            scale  target  other  selectivity  rand-feat    norm\n"
        "───────────────────────────────────────────────────────────────────\n"
        "auto-feat x-5     -5   0.725  0.045        0.680     +0.425  12.500\n"
        "                       4 img  4 img        4 img\n"
        "auto-feat x-2     -2   0.700  0.045        0.655     +0.400  12.500\n"
        "                       4 img  4 img        4 img\n"
        "rand-vec x-2      -2   0.350  0.045        0.305     +0.050  12.500\n"
        "                       4 img  4 img        4 img\n"
        "rand-feat x-2     -2   0.300  0.045        0.255          -  12.500\n"
        "                       4 img  4 img        4 img\n"
        "All runs: protocol class, latents by f1, chosen on the training split.\n"
        "2/3 img: a change in 2 of 3, too few (below 5), uneven or alike for an interval.\n"
        f"vs rand-feat: macro selectivity minus that of rand-feat x-2 (run {end}, seed 42),\n"
        "same images.\n"
        "No p for auto-feat x-5, auto-feat x-2, rand-vec x-2: an interval needs 5 images:\n"
        "4.\n"
        "Runs left out: 1 older (--last 5 shows all), 2 unfinished (auto-feat x-2\n"
        "RUNNING, auto-feat x-2 FAILED: --unfinished).\n"
        "More: docs/compare.md.\n"
    )


def test_the_newest_finished_run_of_each_kind_is_taken(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    table = compare(Compare(tracking_uri=uri))
    assert [row["run_id"] for row in table.rows] == _ids(folders, "strong", "auto", "vec", "feat")
    assert table.best == (0, "macro_selectivity")
    assert any("left out: 1 older (--last 5 shows all), " in note for note in table.notes)


def test_last_takes_the_newest_runs(store: tuple[str, dict[str, RunFolder]]) -> None:
    uri, folders = store
    rows = compare(Compare(tracking_uri=uri, last=2)).rows
    assert [row["run_id"] for row in rows] == _ids(folders, "vec", "feat")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.command)
def test_a_command_and_a_method_are_names_of_one_method(method: Any) -> None:
    assert method_name(method.command) == method.command
    (former,) = [old for old, now in FORMER.items() if now == method.command] or [method.command]
    assert method_name(former) == method.command


@pytest.mark.parametrize(
    "method", [RandVec, RandFeat, AutoFeat, MeanDiff], ids=lambda one: one.command
)
def test_method_is_named_as_command_or_method(
    store: tuple[str, dict[str, RunFolder]], method: Any
) -> None:
    for name in (method.command, next(o for o, now in FORMER.items() if now == method.command)):
        everywhere = ("semseg", "other", "third")
        rows = compare(Compare(tracking_uri=store[0], method=(name,), experiment=everywhere)).rows
        assert {row["method"] for row in rows} == {method.command}


def test_an_unknown_method_is_a_usage_error(store: tuple[str, dict[str, RunFolder]]) -> None:
    with pytest.raises(UsageError, match="'auto': choose one of rand-vec, rand-feat, auto-feat"):
        compare(Compare(tracking_uri=store[0], method=("auto",)))


def test_experiments_and_filter_choose_runs(store: tuple[str, dict[str, RunFolder]]) -> None:
    uri, folders = store
    both = Compare(tracking_uri=uri, experiment=("semseg", "other"), method=("auto-feat",))
    table = compare(replace(both, last=9))
    assert [row["run_id"] for row in table.rows] == _ids(
        folders, "strong", "auto", "elsewhere", "old"
    )
    assert table.title == "4 runs of experiment semseg, other: 4 images, 2 classes"
    weak = compare(Compare(tracking_uri=uri, filter="metrics.target_change < 0.3"))
    assert [row["run_id"] for row in weak.rows] == _ids(folders, "feat")


def test_named_runs_keep_their_order_and_come_from_any_experiment(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    old, elsewhere = _ids(folders, "old", "elsewhere")
    wanted = ["rand-feat x-2", old[:10], elsewhere, old]
    rows = compare(Compare(tracking_uri=uri), wanted).rows
    assert [row["run_id"] for row in rows] == [*_ids(folders, "feat"), old, elsewhere]
    assert [row["run"] for row in rows][1:] == [
        f"auto-feat x-2 ({_end(folders[name])})" for name in ("old", "elsewhere")
    ]


def test_folders_are_compared_without_a_store(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / "runs", changed=changed) for changed in (10, 90)]
    settings = Compare(tracking_uri=f"sqlite:///{tmp_path}/none.db", top=9)
    rows = compare(settings, [str(folder.path) for folder in folders]).rows
    assert [round(row["target_change"], 3) for row in rows] == [0.25, 0.75]
    assert not (tmp_path / "none.db").exists()


def test_a_named_run_without_results_is_a_sentence(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    with pytest.raises(SemsegError, match=r"None .* has finished.*auto-feat x-2: FAILED"):
        compare(Compare(tracking_uri=uri), _ids(folders, "failed"))


def test_no_run_names_the_command_that_makes_one(tmp_path: Path) -> None:
    uri = stores.new_store(tmp_path)
    with pytest.raises(SemsegError, match="semseg-cli auto-feat"):
        compare(Compare(tracking_uri=uri))
    with pytest.raises(SemsegError, match=r"no run to compare.*semseg-cli auto-feat"):
        compare(Compare(tracking_uri=uri, experiment=("Default",)))


@pytest.mark.parametrize("format", FORMATS)
def test_every_form_shows_every_run(store: tuple[str, dict[str, RunFolder]], format: str) -> None:
    text = render(compare(Compare(tracking_uri=store[0])), format)
    for name in ("auto-feat x-5", "auto-feat x-2", "rand-vec x-2", "rand-feat x-2"):
        assert all(word in text.replace("$", "") for word in name.split())


def side_by_side(*runs: TrackedRun, limit: int | None = 80) -> Table:
    """The comparison of runs without artifacts."""
    return comparison(Candidates(runs), View(), Artifacts(), limit)


def _run(name: str, tags: dict[str, str] | None = None, **params: str) -> TrackedRun:
    folder_tags = {"semseg.method": "auto-feat", "semseg.protocol": "class"}
    return TrackedRun(
        f"{name}-id", name, "semseg", "FINISHED", datetime(2026, 1, 1, tzinfo=UTC), Path("none"),
        params, make_report().metrics(), {**folder_tags, **(tags or {})},
    )  # fmt: skip


def test_runs_of_one_name_are_told_apart_by_their_folders_else_by_their_ids() -> None:
    def called(run_id: str, folder: str | None) -> TrackedRun:
        tags = {} if folder is None else {"semseg.folder": folder}
        return replace(_run("auto-feat x-2", tags), run_id=run_id)

    one, two = (
        called("57423551abc", "20261127-a-x-2-eee4"),
        called("90e1abcdef0", "20261127-b-07fc"),
    )
    earlier = called("0123456789a", None)  # of a version that kept no name of the folder
    alike, same = called("1" * 12, "1-a-eee4"), called("2" * 12, "2-b-07fd")
    ends = [name.split("(")[1] for name in row_names([one, two, earlier])]
    assert ends == ["eee4)", "07fc)", "01234567)"]
    ends = [name.split("(")[1] for name in row_names([one, alike, same])]
    assert ends == ["57423551abc)", f"{'1' * 12})", "07fd)"]
    assert row_names([one]) == ["auto-feat x-2"]


def test_settings_that_change_no_result_are_no_difference() -> None:
    one = _run("a", batch_size="1", dump_to="x", n_workers="1", seed="1", scale="-2", top_k="3")
    two = _run("b", batch_size="2", dump_to="y", n_workers="2", seed="2", scale="-2.0")
    assert differing([one, two]) == ["seed"]


def test_settings_that_tell_runs_of_one_method_apart_come_first() -> None:
    other = {"semseg.method": "rand-feat"}
    runs = [_run("a", select="f1", draws="1"), _run("b", select="causal", draws="1")]
    runs.append(_run("c", other, draws="5", select="f1"))
    assert differing([*reversed(runs)]) == ["select", "draws"]


def test_settings_that_do_not_fit_are_named() -> None:
    paths: dict[str, Any] = {f"path_{i}": "/a/long/way/to/a/file/of/weights" for i in range(3)}
    others: dict[str, Any] = {name: f"{path}2" for name, path in paths.items()}
    one, two = _run("a", **paths), _run("b", **others)
    table = side_by_side(one, two)
    assert ("path-1: .../file/of/weights2 in b; else ...a/file/of/weights. path-2: ") in " ".join(
        table.notes
    )
    assert all(len(line) <= 80 for line in render(table).splitlines())
    assert "/a/long/way/to/a/file/of/weights2" in render(table, "csv")


def test_the_first_settings_without_a_column_are_told_with_their_values() -> None:
    runs = [_run("a", max_freq="0.5", images="40"), _run("b", max_freq="0.5"), _run("c")]
    others = [_run(name, {"semseg.method": name}, match=name) for name in ("norm", "none")]
    hidden = ["images", "match", "draws", *(f"n_{i}" for i in range(9))]
    told = settings_notes([*runs, *others], ["a", "b", "c", "d", "e"], hidden)
    assert told == [
        "images: 40 in a; else none. match: none in e; else norm. Also different: draws, n-0, n-1, "
        "n-2, n-3, n-4, ...."
    ]
    strict = _run("e", max_freq="0.1")
    (note,) = settings_notes([*runs, strict], "abce", ["max_freq"])
    assert note == "max-freq: 0.1 in e; else 0.5."
    paths = [_run(n, sae_ckpt=f"/{n}/one/long/folder/to/it/sae.pt") for n in "ab"]
    (note,) = settings_notes(paths, "ab", ["sae_ckpt"])
    assert note == (
        "sae-ckpt: /b/one/long/folder/to/it/sae.pt in b; else /a/one/long/folder/to/it/sae.pt."
    )


def test_what_is_not_given_is_a_value_too() -> None:
    assert differing([_run("a", images="40"), _run("b")]) == ["images"]
    assert differing([_run("a", group_by="^.", top_k="3"), _run("b")]) == ["group_by"]
    assert differing([_run("a", cache_dir="x"), _run("b")]) == []


def test_many_differing_settings_keep_80_columns() -> None:
    settings: list[dict[str, Any]] = [{f"s{i}": f"{i}{x}" for i in range(20)} for x in "12"]
    one, two = (_run("a" * 60, **values) for values in settings)
    text = render(side_by_side(one, two))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "0.655" in text


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"semseg.pooled_telling": "false"}, "b: pooled target and other are one number by"),
        ({"semseg.latents_on_evaluation": "true"}, "b: latents were chosen on the images eval"),
        ({"semseg.digest.evaluation": "x", "semseg.digest.vit": "y"}, "differ in images, ViT"),
        ({"semseg.protocol": "label"}, "the protocols count target and other"),
    ],
)
def test_what_misleads_is_said(tags: dict[str, str], words: str) -> None:
    plain = side_by_side(_run("a"), _run("c"))
    assert not any(words in note for note in plain.notes)
    assert any(words in note for note in side_by_side(_run("a"), _run("b", tags)).notes)


def test_one_run_is_not_called_the_best() -> None:
    assert side_by_side(_run("a")).best is None


def test_a_folder_reads_like_its_run_in_the_store(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    local = from_folder(folders["auto"])
    remote = tracking.find_run(uri, local.run_id)
    assert (local.name, local.status, local.started) == (
        remote.name, remote.status, remote.started
    )  # fmt: skip
    assert (local.params, local.metrics) == (remote.params, remote.metrics)
    assert local.tags.items() <= remote.tags.items()


def test_shared_edits_are_flagged_through_the_whole_way(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "rand-vec")
    report = replace(make_report("rand-vec"), n_patches=160)
    fill(folder, report)
    assert not report.is_pooled_telling
    notes = compare(Compare(), [str(folder.path)]).notes
    assert any("one number by construction" in note for note in notes)


# --- which runs ----------------------------------------------------------------------------------


def test_unfinished_runs_are_shown_where_asked_for(store: tuple[str, dict[str, RunFolder]]) -> None:
    uri, folders = store
    table = compare(Compare(tracking_uri=uri, unfinished=True))
    states = {row["run_id"]: row["status"] for row in table.rows}
    failed, running = _ids(folders, "failed", "running")
    assert (states[failed], states[running]) == ("FAILED", "RUNNING")
    assert len(states) == 6
    assert "status" in [column.key for column in table.columns]
    assert not any("unfinished" in note for note in table.notes)
    assert max(map(len, render(table).splitlines())) <= 80


def test_unfinished_runs_alone_can_be_looked_at(store: tuple[str, dict[str, RunFolder]]) -> None:
    uri, folders = store
    table = compare(Compare(tracking_uri=uri, unfinished=True), _ids(folders, "failed"))
    assert [row["status"] for row in table.rows] == ["FAILED"]
    assert "auto-feat" in render(table)


def test_sweep_takes_the_runs_of_one_command(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mine = stores.stored(uri, make_folder(tmp_path / "runs", sweep_id="abc"))
    stores.stored(uri, make_folder(tmp_path / "runs", "rand-vec"))
    table = compare(Compare(tracking_uri=uri, sweep="abc"))
    assert [row["run_id"] for row in table.rows] == [mine.meta["mlflow_run_id"]]
    with pytest.raises(SemsegError, match="no run to compare that fits --sweep none in experiment"):
        compare(Compare(tracking_uri=uri, sweep="none"))


def test_an_unknown_run_lists_close_names(store: tuple[str, dict[str, RunFolder]]) -> None:
    with pytest.raises(SemsegError, match=r"'auto-fet x-2': did you mean auto-feat x-2"):
        compare(Compare(tracking_uri=store[0]), ["auto-fet x-2"])


def test_runs_of_another_version_are_left_out_with_a_note(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mine, other = (
        stores.stored(uri, make_folder(tmp_path / "runs", n)) for n in ("auto-feat", "rand-vec")
    )
    run_id = other.meta["mlflow_run_id"]
    stores.client(uri).set_tag(run_id, "semseg.schema_version", "2")
    table = compare(Compare(tracking_uri=uri))
    assert [row["run_id"] for row in table.rows] == [mine.meta["mlflow_run_id"]]
    assert (
        "Left out: 1 run of schema version 2, this version of semseg-cli reads 1 (rand-vec x-2)."
    ) in table.notes
    with pytest.raises(SemsegError, match="Left out: 1 run of schema version 2"):
        compare(Compare(tracking_uri=uri), [run_id])


def test_folders_of_another_version_are_left_out_with_a_note(tmp_path: Path) -> None:
    mine, other = make_folder(tmp_path), make_folder(tmp_path)
    other.update(schema_version=2)
    table = compare(Compare(), [str(mine.path), str(other.path)])
    assert len(table.rows) == 1
    assert any("Left out" in note and "schema version 2" in note for note in table.notes)
    with pytest.raises(SemsegError, match="schema version 2"):
        compare(Compare(), [str(other.path)])


def test_a_read_only_store_is_read(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    stores.stored(uri, make_folder(tmp_path / "runs"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    tmp_path.chmod(0o555)
    (tmp_path / "mlflow.db").chmod(0o444)
    try:
        assert len(compare(Compare(tracking_uri=uri, per_class=True)).rows) == 2
    finally:
        tmp_path.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- with which ----------------------------------------------------------------------------------


def _baselines(table: Table) -> list[str | None]:
    return [row.get("baseline") for row in table.rows]


def test_the_baseline_is_random_latents_where_they_are_present(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri = store[0]
    rows = compare(Compare(tracking_uri=uri)).rows
    assert [row.get("baseline") for row in rows] == ["rand-feat x-2"] * 3 + [None]
    assert _baselines(compare(Compare(tracking_uri=uri, method=("auto-feat",)))) == [None, None]


@pytest.mark.parametrize("baseline", ["rand-vec", "random-vector", "rand-vec x-2"])
def test_the_baseline_is_a_method_or_a_run(
    store: tuple[str, dict[str, RunFolder]], baseline: str
) -> None:
    rows = compare(Compare(tracking_uri=store[0], baseline=baseline)).rows
    assert {row.get("baseline") for row in rows} == {"rand-vec x-2", None}


def test_a_baseline_that_is_not_shown_joins_the_table(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    for baseline in ("rand-feat", _ids(folders, "feat")[0][:12], str(folders["feat"].path)):
        table = compare(Compare(tracking_uri=uri, baseline=baseline, method=("auto-feat",), last=1))
        assert [row["run_id"] for row in table.rows] == _ids(folders, "strong", "feat")
        assert _baselines(table) == ["rand-feat x-2", None]


def test_each_run_is_compared_at_its_own_scale(tmp_path: Path) -> None:
    folders = [
        make_folder(tmp_path, command, scale=scale)
        for command in ("rand-feat", "auto-feat")
        for scale in (-2.0, -5.0, 3.0)
        if (command, scale) != ("rand-feat", 3.0)
    ]
    table = compare(Compare(), [str(folder.path) for folder in folders])
    assert _baselines(table) == [None, None, "rand-feat x-2", "rand-feat x-5", "rand-feat x-2"]


def test_a_baseline_that_does_not_exist_is_told(store: tuple[str, dict[str, RunFolder]]) -> None:
    with pytest.raises(SemsegError, match="'rand-feet x-2': did you mean rand-feat x-2"):
        compare(Compare(tracking_uri=store[0], baseline="rand-feet x-2"))
    other = Compare(tracking_uri=store[0], baseline="rand-vec", experiment=("other",))
    with pytest.raises(SemsegError, match=r"--baseline rand-vec has no .* `semseg-cli rand-vec`"):
        compare(other)


# --- columns and pictures ------------------------------------------------------------------------


def test_columns_are_chosen_and_ordered(store: tuple[str, dict[str, RunFolder]]) -> None:
    table = compare(Compare(tracking_uri=store[0], columns="p,target,lookup_split,run_id"))
    assert [column.key for column in table.columns] == [
        "run", "macro_selectivity_p_adjusted", "target_change", "lookup_split", "run_id"
    ]  # fmt: skip
    assert {row["lookup_split"] for row in table.rows} == {"training"}
    with pytest.raises(UsageError, match="--columns has no column 'targt': did you mean target"):
        compare(Compare(tracking_uri=store[0], columns="targt"))


def test_all_columns_hold_constants_too_at_80_columns(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    table = compare(Compare(tracking_uri=store[0], all_columns=True))
    assert {"vit_layer", "batch_size", "protocol", "run_id"} <= {c.key for c in table.columns}
    assert max(map(len, render(table).splitlines())) <= 80


def test_a_wider_terminal_shows_more(store: tuple[str, dict[str, RunFolder]]) -> None:
    settings = Compare(tracking_uri=store[0])
    assert "target_change" not in {c.key for c in compare(settings, width=70).columns}
    assert "target_change" in {c.key for c in compare(settings, width=120).columns}
    csv = Compare(tracking_uri=store[0], format="csv")
    assert "target_change" in {c.key for c in compare(csv).columns}


def test_rows_are_sorted_and_cut(store: tuple[str, dict[str, RunFolder]]) -> None:
    table = compare(Compare(tracking_uri=store[0], sort="-target", top=2))
    assert [row["run"] for row in table.rows] == ["rand-feat x-2", "rand-vec x-2"]
    assert table.title.startswith("2 of 4 runs of experiment semseg: ")
    assert table.best == (1, "macro_selectivity")


def test_the_plot_gets_every_run_with_results(
    store: tuple[str, dict[str, RunFolder]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def comparison_figure(rows: Any, path: Path) -> None:
        drawn.extend(rows)
        path.write_bytes(b"PNG")

    figures = SimpleNamespace(comparison_figure=comparison_figure)
    monkeypatch.setitem(sys.modules, "semseg_cli.show.charts", figures)
    path = tmp_path / "new" / "runs.png"
    for per_class in (False, True):
        drawn.clear()
        compare(Compare(tracking_uri=store[0], plot=path, unfinished=True, per_class=per_class))
        assert path.read_bytes() == b"PNG"
        assert len(drawn) == 4
        assert {"run", "macro_target_change", "macro_other_change_hi"} <= set(drawn[0])


def test_a_plot_that_cannot_be_written_is_a_sentence(
    store: tuple[str, dict[str, RunFolder]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "semseg_cli.show.charts", SimpleNamespace(comparison_figure=None)
    )
    (tmp_path / "taken").write_text("")
    with pytest.raises(SemsegError, match=r"Cannot write .*--plot FILE\.png"):
        compare(Compare(tracking_uri=store[0], plot=tmp_path / "taken" / "a.png"))
