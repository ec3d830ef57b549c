"""`compare`: which runs it takes, what it shows of them and what it says about them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow_store as stores
import pytest
from run_folders import fill, make_folder, make_report

from semseg_cli import tracking
from semseg_cli.compare import COMMANDS, Compare, compare
from semseg_cli.comparison import comparison, differing
from semseg_cli.config import METHODS
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs import RunFolder
from semseg_cli.tables import FORMATS, render
from semseg_cli.tracked import TrackedRun, from_folder, pick


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, RunFolder]]:
    """A store in which three methods ran, one of them twice; one run failed, one goes on."""
    root = tmp_path_factory.mktemp("store")
    uri = stores.new_store(tmp_path_factory, root)
    wanted: dict[str, dict[str, Any]] = {
        "old": {"changed": 70},
        "auto": {},
        "strong": {"scale": -5.0, "changed": 95},
        "feat": {"command": "rand-feat", "changed": 10},
        "vec": {"command": "rand-vec", "changed": 20},
        "failed": {"status": "FAILED"},
        "elsewhere": {"experiment": "other", "changed": 80},
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


def test_the_table_is_pinned(store: tuple[str, dict[str, RunFolder]]) -> None:
    assert render(compare(Compare(tracking_uri=store[0]))) == (
        "4 runs of experiment semseg\n"
        "                                                   macro  macro    edit\n"
        "run            scale  target  other  selectivity  target  other    norm\n"
        "───────────────────────────────────────────────────────────────────────\n"
        "auto-feat x-5     -5   0.781  0.045        0.736   0.725  0.045  12.500\n"
        "auto-feat x-2     -2   0.750  0.045        0.705   0.700  0.045  12.500\n"
        "rand-vec x-2      -2   0.312  0.045        0.267   0.350  0.045  12.500\n"
        "rand-feat x-2     -2   0.250  0.045        0.205   0.300  0.045  12.500\n"
        "All runs: 4 images, 2 classes, protocol class, latents by f1, chosen on the\n"
        "training split.\n"
        "macro: mean over classes with at least 50 predicted patches.\n"
        "2 unfinished runs left out: auto-feat x-2 RUNNING, auto-feat x-2 FAILED.\n"
    )


def test_the_newest_finished_run_of_each_kind_is_taken(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    table = compare(Compare(tracking_uri=uri))
    assert [row["run_id"] for row in table.rows] == _ids(folders, "strong", "auto", "vec", "feat")
    assert table.best == (0, "selectivity")


def test_last_takes_the_newest_runs(store: tuple[str, dict[str, RunFolder]]) -> None:
    uri, folders = store
    rows = compare(Compare(tracking_uri=uri, last=2)).rows
    assert [row["run_id"] for row in rows] == _ids(folders, "vec", "feat")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.command)
def test_method_is_named_as_command_or_method(
    store: tuple[str, dict[str, RunFolder]], method: Any
) -> None:
    for name in (method.command, method.name):
        rows = compare(Compare(tracking_uri=store[0], method=(name,))).rows
        assert {row["method"] for row in rows} == {method.name}
    assert COMMANDS[method.name] == method.command


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
    assert table.title == "4 runs of experiment semseg, other"
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
        f"auto-feat x-2 ({old[:8]})", f"auto-feat x-2 ({elsewhere[:8]})"
    ]  # fmt: skip


def test_folders_are_compared_without_a_store(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / "runs", changed=changed) for changed in (10, 90)]
    settings = Compare(tracking_uri=f"sqlite:///{tmp_path}/none.db")
    rows = compare(settings, [str(folder.path) for folder in folders]).rows
    assert [round(row["target_change"], 3) for row in rows] == [0.25, 0.75]
    assert not (tmp_path / "none.db").exists()


def test_a_named_run_without_results_is_a_sentence(
    store: tuple[str, dict[str, RunFolder]],
) -> None:
    uri, folders = store
    with pytest.raises(SemsegError, match=r"None .* has finished.*auto-feat x-2: FAILED"):
        compare(Compare(tracking_uri=uri), _ids(folders, "failed"))


def test_no_run_names_the_command_that_makes_one(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    uri = stores.new_store(tmp_path_factory, tmp_path)
    with pytest.raises(SemsegError, match="semseg-cli auto-feat"):
        compare(Compare(tracking_uri=uri))
    with pytest.raises(SemsegError, match=r"no run to compare.*semseg-cli auto-feat"):
        compare(Compare(tracking_uri=uri, experiment=("Default",)))


@pytest.mark.parametrize("format", FORMATS)
def test_every_form_shows_every_run(store: tuple[str, dict[str, RunFolder]], format: str) -> None:
    text = render(compare(Compare(tracking_uri=store[0])), format)
    for name in ("auto-feat x-5", "auto-feat x-2", "rand-vec x-2", "rand-feat x-2"):
        assert name in text.replace("$", "")


@pytest.mark.parametrize(
    ("output", "format", "form"),
    [(None, "auto", "table"), ("a.csv", "auto", "csv"), ("a.TEX", "auto", "latex"),
     ("a.md", "json", "json"), ("a.txt", "auto", "table")],
)  # fmt: skip
def test_the_form_follows_the_file(output: str | None, format: Any, form: str) -> None:
    assert Compare(output=Path(output) if output else None, format=format).output_format == form


def _run(name: str, tags: dict[str, str] | None = None, **params: str) -> TrackedRun:
    folder_tags = {"semseg.method": "automatic-feature", "semseg.protocol": "class"}
    return TrackedRun(
        f"{name}-id", name, "semseg", "FINISHED", datetime(2026, 1, 1, tzinfo=UTC), "sqlite:///x",
        params, make_report().metrics(), {**folder_tags, **(tags or {})},
    )  # fmt: skip


def test_settings_that_change_no_result_are_no_difference() -> None:
    one = _run("a", batch_size="1", dump_to="x", n_workers="1", seed="1", scale="-2", top_k="3")
    two = _run("b", batch_size="2", dump_to="y", n_workers="2", seed="2", scale="-2.0")
    assert differing([one, two]) == ["seed"]


def test_settings_that_do_not_fit_are_named() -> None:
    paths: dict[str, Any] = {f"path_{i}": "/a/long/way/to/a/file/of/weights" for i in range(2)}
    others: dict[str, Any] = {name: f"{path}2" for name, path in paths.items()}
    one, two = _run("a", **paths), _run("b", **others)
    table = comparison([one, two])
    assert table.notes[-1] == "Also different, shown by --format csv: path_0, path_1."
    assert all(len(line) <= 80 for line in render(table).splitlines())
    assert "/a/long/way/to/a/file/of/weights2" in render(table, "csv")


def test_many_differing_settings_keep_80_columns() -> None:
    settings: list[dict[str, Any]] = [{f"s{i}": f"{i}{x}" for i in range(20)} for x in "12"]
    one, two = (_run("a" * 60, **values) for values in settings)
    text = render(comparison([one, two]))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "0.705" in text


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"semseg.pooled_telling": "false"}, "b: pooled target and other are one number by"),
        ({"semseg.latents_on_evaluation": "true"}, "b: latents were chosen on the images eval"),
        ({"semseg.digest.evaluation": "x", "semseg.digest.sae": "y"}, "differ in images, SAE"),
        ({"semseg.protocol": "label"}, "the protocols count target and other"),
    ],
)
def test_what_misleads_is_said(tags: dict[str, str], words: str) -> None:
    plain = comparison([_run("a"), _run("c")])
    assert not any(words in note for note in plain.notes)
    assert any(words in note for note in comparison([_run("a"), _run("b", tags)]).notes)


def test_one_run_is_not_called_the_best() -> None:
    assert comparison([_run("a")]).best is None


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


def test_beginnings_of_ids_must_fit_one_run() -> None:
    one, two = _run("abc"), _run("abd")
    assert pick([one, two], "abc-") is one
    with pytest.raises(SemsegError, match=r"begins the ids of 2 runs \(abc-id \(abc\), abd-id"):
        pick([one, two], "ab")
    with pytest.raises(SemsegError, match="`semseg-cli compare` lists the runs"):
        pick([one, two], "zzz")


def test_a_finished_run_is_preferred_to_a_newer_unfinished_one() -> None:
    newer = replace(_run("a"), run_id="2", status="RUNNING")
    assert pick([newer, _run("a")], "a").run_id == "a-id"


def test_shared_edits_are_flagged_through_the_whole_way(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "rand-vec")
    report = replace(make_report("rand-vec"), n_patches=160)
    fill(folder, report)
    assert report.is_pooled_identical
    notes = compare(Compare(), [str(folder.path)]).notes
    assert any("one number by construction" in note for note in notes)
