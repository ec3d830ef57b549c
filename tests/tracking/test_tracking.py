"""Tracking with real stores: what is in them, what failures say, what can be done again."""

import ast
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow_store as stores
import pytest
from run_folders import fill, make_folder, make_report
from terminal import Done, ended

import semseg_cli
from benchmarks.campaign.hand import MOST_SECONDS, Forked, Job, fork_server, settle
from semseg_cli import tracking
from semseg_cli.errors import SemsegError, StoreError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.report import ClassResults
from semseg_cli.runs.report_json import report_of
from semseg_cli.tracking import TrackedRun, client, read, sqlite_runs, store_address


def as_text(run: TrackedRun) -> str:
    """All of a run, so that a NaN equals a NaN."""
    return json.dumps(asdict(run), sort_keys=True, default=str)


def lookup_text(uri: str, wanted: str) -> str:
    return tracking.read_artifact_text(tracking.find_lookup(uri, wanted), "lookup.csv")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return stores.new_store(tmp_path)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


# Addresses


def test_option_wins_over_environment_over_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tracking.resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000/")
    assert tracking.resolve_uri(None) == "http://tracker:5000"
    assert tracking.resolve_uri("sqlite:///runs.db?a=b") == f"sqlite:///{tmp_path}/runs.db?a=b"


@pytest.mark.parametrize("folder", ["mlruns", "./mlruns", "file:///data/mlruns", "runs.db"])
def test_plain_path_is_refused_with_a_database_to_give(folder: str) -> None:
    with pytest.raises(StoreError, match=r"plain path.*--tracking-uri sqlite:////.*\.db\.$"):
        tracking.resolve_uri(folder)


@pytest.mark.parametrize(
    ("uri", "words"),
    [("ftp://there/runs", "no kind"), ("sqlite://", "no file"), ("sqlite:///:memory:", "no file")],
)
def test_address_of_no_store_is_refused(uri: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        tracking.resolve_uri(uri)


def test_artifacts_of_a_database_lie_beside_it() -> None:
    assert store_address.artifact_location("sqlite:////a b/m.db", "x/y").endswith(  # type: ignore[union-attr]
        "/a%20b/mlartifacts/x-y"
    )
    assert store_address.artifact_location("http://tracker", "x") is None


def test_ui_command_is_quoted_for_the_shell() -> None:
    assert tracking.ui_command("sqlite:////a b/m.db") == (
        "semseg-cli ui --tracking-uri 'sqlite:////a b/m.db'"
    )


def test_ui_command_is_short_for_the_store_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    default = tracking.resolve_uri(None)
    assert tracking.ui_command(default) == "semseg-cli ui"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker")
    assert tracking.ui_command(default) == f"semseg-cli ui --tracking-uri {default}"


def test_store_that_the_environment_names_needs_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    # An option would lack the password, which is never printed.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@tracker/")
    assert store_address.store_option(tracking.resolve_uri(None)) == []


def test_store_is_named_where_the_environment_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    default = tracking.resolve_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert store_address.store_option(default) == ["--tracking-uri", default]


# Probing


def test_probe_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere of the tracking store does not exist"):
        tracking.probe(f"sqlite:///{tmp_path}/nowhere/m.db")
    assert not (tmp_path / "nowhere").exists()


def test_probe_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_text("no database, though long enough to hold a header " * 9)
    with pytest.raises(StoreError, match="no readable SQLite database"):
        tracking.probe(f"sqlite:///{tmp_path}/m.db")


def test_probe_leaves_a_foreign_database_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "m.db")
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = (tmp_path / "m.db").read_bytes()
    with pytest.raises(StoreError, match="a database but no MLflow store"):
        tracking.probe(f"sqlite:///{tmp_path}/m.db")
    assert (tmp_path / "m.db").read_bytes() == before


def test_probe_names_what_is_read_only(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).suffix != ".db")
    with pytest.raises(StoreError, match=r"mlflow\.db is read-only.*--no-track"):
        tracking.probe(uri)


def test_probe_says_that_a_store_is_of_another_mlflow(uri: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"another version of MLflow.*mlflow db upgrade"):
        tracking.probe(uri)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """How often MLflow would try again, and how many seconds it waits, at each search so far."""
    import mlflow

    search, seen = mlflow.MlflowClient.search_experiments, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
        seen.append((os.environ[names[0]], os.environ[names[1]]))
        return search(*args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "search_experiments", watched)
    return seen


def test_probe_of_a_dead_server_is_quick(patience: list[tuple[str, str]]) -> None:
    with pytest.raises(StoreError, match=r"Nothing answers at .*127\.0\.0\.1.*--no-track"):
        tracking.probe(f"http://127.0.0.1:{stores.free_port()}")
    assert patience == [("0", "3")]


def test_probe_does_not_wait_long_for_a_silent_server(
    patience: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(client._PROBE, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(StoreError, match="takes the connection, but sends no answer"),
    ):
        tracking.probe(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert patience == [("0", "1")]


def test_probe_of_a_database_host_that_is_down_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, waits = socket.create_connection, []

    def watched(address: Any, timeout: float) -> socket.socket:
        waits.append(timeout)
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", watched)
    with pytest.raises(StoreError, match=r"Nothing answers at .*postgresql://127\.0\.0\.1"):
        tracking.probe(f"postgresql://user:secret@127.0.0.1:{stores.free_port()}/runs")
    assert waits == [store_address.PROBE_SECONDS]
    assert store_address.PROBE_SECONDS <= 3


class _NoMlflow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        return


def test_probe_of_another_kind_of_server_says_what_it_answered() -> None:
    with HTTPServer(("127.0.0.1", 0), _NoMlflow) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            with pytest.raises(StoreError, match=r"answers with status 404 .*HTML page"):
                tracking.probe(f"http://127.0.0.1:{other.server_port}")
        finally:
            other.shutdown()


def test_probe_restores_the_patience_of_http(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    tracking.probe(uri)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


N_FIRST_USES = 3


def use_first(root: Path, n_turns: int, both: Barrier, job: Job) -> None:
    """Stores a run in so many new stores, each at the same time as the other process does."""
    settle(job)
    for turn in range(n_turns):
        both.wait(MOST_SECONDS)
        uri = f"sqlite:///{root}/{turn}.db"
        tracking.probe(uri)
        stores.stored(uri, make_folder(root / "runs"))


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: new stores wait for the disk most of their time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def use_first_at_once(root: Path, n_turns: int) -> list[Done]:
    """Two processes use the same new store, `n_turns` times: how each ended."""
    both = fork_server().Barrier(2)
    places = [root / name for name in "ab"]
    processes = []
    for place in places:
        place.mkdir()
        processes.append(Forked(use_first, root, n_turns, both, Job((), str(place))))
    return [ended(process, place) for process, place in zip(processes, places, strict=True)]


@pytest.mark.slow
def test_two_first_uses_at_once_succeed_and_say_nothing(quick_disk: Path) -> None:
    assert use_first_at_once(quick_disk, N_FIRST_USES) == [Done(0, "", "")] * 2
    for turn in range(N_FIRST_USES):
        assert len(tracking.find_runs(f"sqlite:///{quick_disk}/{turn}.db")) == 2


def test_a_dataset_that_another_process_has_just_stored_is_no_failure(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    real, refusals = mlflow.MlflowClient.log_inputs, [2]

    def refuse_twice(*args: Any) -> None:
        if refusals[0]:
            refusals[0] -= 1
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets")
        real(*args)

    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", refuse_twice)
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    assert len(stores.snapshot(folder)["inputs"]) == 2
    refusals[0] = 3
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        tracking.log_folder(folder)


# What is stored


def test_a_run_has_everything_of_its_folder(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    seen = stores.snapshot(folder)
    assert seen["name"] == "auto-feat x-2"
    assert seen["status"] == "FINISHED"
    assert seen["metrics"] == pytest.approx(make_report().metrics())
    assert seen["params"]["scale"] == "-2.0"
    assert seen["params"]["imgs_root"] == "/data/ade"
    assert seen["tags"]["semseg.method"] == "auto-feat"
    assert seen["tags"]["semseg.digest.sae"] == "5ae"
    assert seen["tags"]["semseg.latents_on_evaluation"] == "false"
    assert seen["tags"]["semseg.folder"] == folder.path.name
    assert seen["tags"]["author"] == "me"
    assert "| auto-feat x-2 | 0.700 4 img |" in seen["tags"]["mlflow.note.content"]
    context = "mlflow.data.context"
    assert seen["inputs"] == [
        ("ade training", "f" * 36, [(context, "lookup")]),
        ("ade validation", "e" * 36, [(context, "evaluation")]),
    ]
    assert seen["artifacts"] == [
        "class_results.json",
        "log.txt",
        "lookup.csv",
        "report.json",
        "results",
        "results/change_matrix.parquet",
        "results/class_results.csv",
        "results/per_image.parquet",
        "run.json",
        "settings.toml",
    ]
    assert folder.meta["uploaded"] is True


def test_the_class_table_is_one_that_mlflow_reads(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    experiment = folder.meta["mlflow_experiment_id"]
    table = MlflowClient(uri).load_table(experiment, "class_results.json")
    first = ["class_name", "target_change", "other_change", "selectivity", "latent"]
    assert list(table.columns[:5]) == first
    assert list(table["class_name"]) == ["sand", "sea [b t d]"]
    assert list(table["target_change"]) == [0.9, 0.5]
    assert list(table["selectivity"]) == [0.86, 0.45]


def test_report_comes_back_from_the_store(uri: str, tmp_path: Path) -> None:
    stores.stored(uri, make_folder(tmp_path / "runs"))
    run = tracking.find_run(uri, "auto-feat x-2")
    text = tracking.read_artifact_text(run, "report.json")
    assert report_of(json.loads(text)) == make_report()


def test_logging_twice_is_logging_once(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    once = stores.snapshot(folder)
    tracking.log_folder(folder)
    assert stores.snapshot(folder) == once


def test_start_shows_a_running_run(uri: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs", status=None)
    tracking.start(uri, [folder])
    assert stores.snapshot(folder)["status"] == "RUNNING"
    assert folder.meta["tracking_uri"] == uri


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_without_a_report_is_stored_with_its_reason(
    uri: str, tmp_path: Path, status: str
) -> None:
    folder = make_folder(tmp_path / "runs", status=status)
    folder.update(reason="The disk is full.")
    seen = stores.snapshot(stores.stored(uri, folder))
    assert (seen["status"], seen["metrics"]) == (status, {})
    assert seen["tags"]["semseg.reason"] == "The disk is full."
    assert "log.txt" in seen["artifacts"]


def test_a_run_that_never_said_how_it_ended_was_killed(uri: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs", status=None)
    assert stores.snapshot(stores.stored(uri, folder))["status"] == "KILLED"


def test_a_split_in_both_roles_is_one_input_and_flagged(uri: str, tmp_path: Path) -> None:
    one = {"name": "ade", "root": "/d", "split": "validation", "digest": "e", "n_images": 4}
    both = [{**one, "role": "evaluation"}, {**one, "role": "lookup"}]
    seen = stores.snapshot(stores.stored(uri, make_folder(tmp_path / "runs", datasets=both)))
    assert seen["inputs"] == [
        ("ade validation", "e", [("mlflow.data.context", "evaluation, lookup")])
    ]
    assert seen["tags"]["semseg.latents_on_evaluation"] == "true"


def test_many_and_long_settings_fit(uri: str, tmp_path: Path) -> None:
    lines = "".join(f"option_{i} = {i}\n" for i in range(250))
    folder = make_folder(tmp_path / "runs", settings=f'{lines}long = "{"x" * 9000}"\n')
    params = stores.snapshot(stores.stored(uri, folder))["params"]
    assert params["option_249"] == "249"
    assert len(params["long"]) == 6000
    assert params["long"].endswith("xx ... (9000 characters: settings.toml has all)")


def test_settings_are_flat_text(uri: str, tmp_path: Path) -> None:
    text = 'classes = ["sand", "sea"]\nquiet = true\n[deep.er]\nx = 1.5\n'
    params = stores.snapshot(stores.stored(uri, make_folder(tmp_path / "r", settings=text)))
    kept = {"classes": "sand, sea", "quiet": "true", "deep.er.x": "1.5"}
    assert kept.items() <= params["params"].items()


def test_classes_are_metrics_where_that_is_asked_for(uri: str, tmp_path: Path) -> None:
    asked = stores.stored(uri, make_folder(tmp_path / "runs", class_metrics=True))
    metrics = stores.snapshot(asked)["metrics"]
    assert metrics["class/sand/target_change"] == 0.9
    assert metrics["class/sea_b_t_d/selectivity"] == pytest.approx(0.45)
    assert len(metrics) == len(make_report().metrics()) + 2 * 3
    found = tracking.find_run(uri, asked.meta["mlflow_run_id"])
    assert found.metrics == pytest.approx(make_report().metrics())


def test_many_classes_fit_and_names_stay_apart(uri: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs", class_metrics=True)
    names = ["a b", "a/b", "../..", "海", *(f"class {i}" for i in range(400))]
    results = [ClassResults(i, name, 10, 5, 10, 1, {1: 5}) for i, name in enumerate(names, 1)]
    fill(folder, replace(make_report(), class_results=results))
    metrics = stores.snapshot(stores.stored(uri, folder))["metrics"]
    assert len([name for name in metrics if name.startswith("class/")]) == 3 * len(names)
    for name in ("id1", "id2", "id3", "id4", "class_399"):
        assert f"class/{name}/other_change" in metrics


def test_the_machine_is_tracked_until_the_block_ends(uri: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs", status=None)
    tracking.start(uri, [folder])
    with tracking.system_metrics(folder):
        assert any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())
    assert not any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())
    metrics = stores.snapshot(folder)["metrics"]
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert tracking.find_run(uri, folder.meta["mlflow_run_id"]).metrics == {}


def test_a_store_that_takes_no_system_metrics_is_logged_only(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    folder = make_folder(tmp_path / "runs", status=None)
    tracking.start(uri, [folder])
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", _no_space)
    with tracking.system_metrics(folder):
        pass
    assert "system metrics: The tracking store" in caplog.text
    assert "No space left" in caplog.text


# Under `mlflow run`


def test_the_run_of_mlflow_run_is_taken_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = stores.client(uri)
    given = api.create_run(api.create_experiment("project"), run_name="entry point")
    for name, value in {"scale": "-2", "seed": "3"}.items():
        api.log_param(given.info.run_id, name, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    folders = [make_folder(tmp_path / "runs", scale=scale) for scale in (-2.0, -5.0)]
    tracking.start(uri, folders)
    assert "MLFLOW_RUN_ID" not in os.environ
    for folder in folders:
        tracking.log_folder(folder)
    first, second = (stores.snapshot(folder) for folder in folders)
    assert folders[0].meta["mlflow_run_id"] == given.info.run_id
    assert (first["name"], second["name"]) == ("entry point", "auto-feat x-5")
    assert (first["params"]["scale"], second["params"]["scale"]) == ("-2", "-5.0")
    assert first["tags"]["semseg.param_conflicts"] == "seed: logged 3, used 42"
    assert {folder.meta["experiment"] for folder in folders} == {"project"}


def test_an_unknown_given_run_is_a_sentence(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "5" * 32)
    with pytest.raises(StoreError, match=r"refuses \(Run with id=5+ not found\)"):
        tracking.start(uri, [make_folder(tmp_path / "runs")])


# Failures, and what can be done afterwards


def test_a_deleted_experiment_is_a_sentence(uri: str, tmp_path: Path) -> None:
    api = stores.client(uri)
    api.delete_experiment(api.create_experiment("semseg"))
    with pytest.raises(StoreError, match=r"'semseg' was deleted.*restore.*--experiment"):
        tracking.start(uri, [make_folder(tmp_path / "runs")])


@pytest.mark.parametrize("call", ["log_batch", "log_inputs", "log_artifact", "set_terminated"])
def test_an_interrupted_run_is_uploaded_later(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    import mlflow

    broken = make_folder(tmp_path / "runs")
    tracking.start(uri, [broken])
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, call, _no_space)
        with pytest.raises(StoreError) as caught:
            tracking.log_folder(broken)
    assert f"`semseg-cli upload {broken.path}`" in str(caught.value)
    assert "No space left" in str(caught.value)
    assert broken.meta["uploaded"] is False
    tracking.upload(broken)
    assert broken.meta["uploaded"] is True
    _assert_as_if_never_interrupted(uri, broken)


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def _assert_as_if_never_interrupted(uri: str, folder: RunFolder) -> None:
    interrupted = stores.snapshot(folder)
    known = {"tracking_uri": None, "mlflow_run_id": None}
    folder.update(**known)
    tracking.upload(folder, uri)
    assert stores.snapshot(folder) == interrupted


def test_upload_makes_a_run_with_the_times_of_the_folder(uri: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs", status=None)
    folder.update(created="2026-01-02T03:04:05+00:00", ended="2026-01-02T03:05:05+00:00")
    folder.update(status="FAILED", reason="Out of memory.")
    tracking.upload(folder, uri)
    seen = stores.snapshot(folder)
    assert seen["end"] - seen["start"] == 60_000
    assert seen["status"] == "FAILED"


def test_upload_takes_the_run_that_a_killed_process_left(uri: str, tmp_path: Path) -> None:
    left, other, done = (make_folder(tmp_path, scale=scale) for scale in (-1.0, -2.0, -4.0))
    tracking.start(uri, [left, other, done])
    tracking.log_folder(done)
    ids = [folder.meta["mlflow_run_id"] for folder in (left, other, done)]
    for folder in (left, other, done):  # as if none had been noted
        folder.update(tracking_uri=None, mlflow_run_id=None, mlflow_experiment_id=None)
        tracking.upload(folder, uri)
    assert [left.meta["mlflow_run_id"], other.meta["mlflow_run_id"]] == ids[:2]
    assert done.meta["mlflow_run_id"] not in ids  # it had ended: nobody left it behind
    statuses = [run.info.status for run in stores.client(uri).search_runs(["1"])]
    assert statuses == ["FINISHED"] * 4


def test_upload_makes_a_new_run_where_the_store_has_lost_it(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    lost = folder.meta["mlflow_run_id"]
    stores.client(uri).delete_run(lost)
    tracking.upload(folder)
    assert folder.meta["mlflow_run_id"] != lost
    assert [run.run_id for run in tracking.find_runs(uri)] == [folder.meta["mlflow_run_id"]]


def test_log_folder_without_a_start_points_to_upload(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs")
    with pytest.raises(StoreError, match="semseg-cli upload"):
        tracking.log_folder(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.server(tmp_path_factory.mktemp("server"), stores.free_port()) as uri:
        yield uri


@pytest.mark.slow
def test_a_server_gets_what_a_database_gets(
    served: str, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "runs")
    tracking.probe(served)
    over_http = stores.snapshot(stores.stored(served, folder))
    link = tracking.run_link(folder)
    assert link == (
        f"{served}/#/experiments/{folder.meta['mlflow_experiment_id']}"
        f"/runs/{folder.meta['mlflow_run_id']}"
    )
    text = lookup_text(served, folder.meta["mlflow_run_id"][:10])
    assert text == (folder.path / "lookup.csv").read_text()
    assert capsys.readouterr().out == ""
    tracking.upload(folder, uri)
    assert tracking.run_link(folder) is None
    assert stores.snapshot(folder) == over_http


@pytest.mark.slow
def test_a_server_that_dies_loses_nothing(uri: str, tmp_path: Path) -> None:
    folder, port = make_folder(tmp_path / "runs"), stores.free_port()
    (tmp_path / "server").mkdir()
    with stores.server(tmp_path / "server", port) as served:
        tracking.start(served, [folder])
    with pytest.raises(StoreError, match=r"Nothing answers.*semseg-cli upload"):
        tracking.log_folder(folder)
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 2
    assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 20
    with stores.server(tmp_path / "server", port):
        tracking.upload(folder)
        after = stores.snapshot(folder)
    assert after["status"] == "FINISHED"
    tracking.upload(folder, uri)
    assert stores.snapshot(folder) == after


# Finding runs


def test_looking_for_runs_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match=r"no tracking store.*semseg-cli auto-feat"):
        tracking.find_runs(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_looking_for_runs_writes_nothing(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    (tmp_path / "mlflow.db.lock").unlink(missing_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    run = tracking.find_run(uri, folder.meta["mlflow_run_id"])
    tracking.read_artifact_text(run, "lookup.csv")
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_runs_of_other_programs_are_not_ours(uri: str, tmp_path: Path) -> None:
    stores.client(uri).create_run("0")
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    assert [run.run_id for run in tracking.find_runs(uri)] == [folder.meta["mlflow_run_id"]]


def test_tables_hold_the_runs_that_mlflow_finds(uri: str, tmp_path: Path) -> None:
    """Held against MLflow's own client: two experiments, a NaN, an infinity, runs deleted."""
    client = stores.client(uri)
    ids = []
    for experiment, changed in (("one", 90), ("one", 10), ("two", 30), ("gone", 50)):
        folder = make_folder(tmp_path / "runs", changed=changed, experiment=experiment)
        ids.append(stores.stored(uri, folder).meta["mlflow_run_id"])
    client.log_metric(ids[0], "odd", float("nan"))
    client.log_metric(ids[0], "vast", float("inf"))
    client.log_metric(ids[2], "twice", 1.0, step=1)
    client.log_metric(ids[2], "twice", 2.0, step=2)
    client.delete_run(ids[1])
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    found = sqlite_runs.read_runs(uri, tmp_path / "mlflow.db", "intervention")
    assert found is not None
    names, runs = found
    # Any filter makes MLflow's client answer.
    slow = tracking.find_runs(uri, filter_string="attributes.run_id != ''")
    assert names == {"Default", "one", "two"}
    assert [run.run_id for run in runs] == [ids[2], ids[0]]
    assert [as_text(run) for run in runs] == [as_text(run) for run in slow]


def test_finding_runs_of_a_sqlite_store_does_not_load_mlflow(uri: str, tmp_path: Path) -> None:
    stores.stored(uri, make_folder(tmp_path / "runs"))
    code = (
        "import sys; from semseg_cli import tracking; n = len(tracking.find_runs(sys.argv[1])); "
        "print(n, 'mlflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE experiments SET workspace = 'theirs' WHERE name = 'Default'",
        "ALTER TABLE latest_metrics RENAME COLUMN is_nan TO not_a_number",
    ],
)
def test_tables_that_are_not_as_known_are_left_to_mlflow(
    uri: str, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.stored(uri, make_folder(tmp_path / "runs"))
    monkeypatch.setattr(read, "_ask_mlflow", lambda *_: ["asked"])
    assert list(tracking.find_runs(uri)) != ["asked"]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute(change)
    assert sqlite_runs.read_runs(uri, tmp_path / "mlflow.db", "intervention") is None
    assert list(tracking.find_runs(uri)) == ["asked"]


def test_filter_and_experiments_narrow_the_search(uri: str, tmp_path: Path) -> None:
    for experiment, changed in (("one", 90), ("two", 10)):
        folder = make_folder(tmp_path / "runs", changed=changed, experiment=experiment)
        stores.stored(uri, folder)
    assert [run.experiment for run in tracking.find_runs(uri)] == ["two", "one"]
    assert [run.experiment for run in tracking.find_runs(uri, ["one"])] == ["one"]
    strong = tracking.find_runs(uri, filter_string="metrics.target_change > 0.5")
    assert [run.experiment for run in strong] == ["one"]
    with pytest.raises(SemsegError, match=r"no experiment 'three'.*Default, one, two"):
        tracking.find_runs(uri, ["three"])
    with pytest.raises(StoreError, match="refuses"):
        tracking.find_runs(uri, filter_string="target above one half")


def test_a_run_is_found_by_id_beginning_name_and_folder(uri: str, tmp_path: Path) -> None:
    older, _ = (stores.stored(uri, make_folder(tmp_path / "runs")) for _ in range(2))
    run_id = older.meta["mlflow_run_id"]
    assert tracking.find_run(uri, run_id).run_id == run_id
    assert tracking.find_run(uri, run_id[:12]).run_id == run_id
    with pytest.raises(SemsegError, match=f"2 runs are called .*x-2 .{older.path.name[-4:]}. of"):
        tracking.find_run(uri, "auto-feat x-2")
    assert tracking.find_run("sqlite:////none.db", str(older.path)).run_id == run_id
    with pytest.raises(SemsegError, match="did you mean auto-feat x-2"):
        tracking.find_run(uri, "auto-feat x2")


def test_a_missing_artifact_is_a_sentence(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs"))
    for wanted in ("auto-feat x-2", str(folder.path)):
        run = tracking.find_run(uri, wanted)
        with pytest.raises(StoreError, match=r"plots/none\.txt of run auto-feat x-2 cannot"):
            tracking.read_artifact_text(run, "plots/none.txt")


def test_lookup_comes_from_a_run_or_a_folder(uri: str, tmp_path: Path) -> None:
    folder = stores.stored(uri, make_folder(tmp_path / "runs", kind="lookup"))
    text = (folder.path / "lookup.csv").read_text()
    assert lookup_text(uri, "auto-feat x-2") == text
    assert lookup_text("sqlite:////none.db", str(folder.path)) == text
    with pytest.raises(SemsegError, match="neither a file nor a run"):
        lookup_text("sqlite:////none.db", "auto-feat x-2")


# The house


def test_only_tracking_imports_mlflow() -> None:
    package = Path(semseg_cli.__file__).parent
    found = {p.relative_to(package).parts[0] for p in package.rglob("*.py") if _imports_mlflow(p)}
    assert found == {"tracking"}


def _imports_mlflow(path: Path) -> bool:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] == "mlflow" for name in names)


def _heavy_after(statement: str) -> str:
    heavy = {"mlflow", "torch", "transformers", "pandas"}
    check = f"{statement}; import sys; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True,
        cwd=Path(semseg_cli.__file__).parents[1],
    )  # fmt: skip
    return done.stdout.strip()


def test_importing_tracking_and_compare_is_light() -> None:
    assert _heavy_after("import semseg_cli.tracking, semseg_cli.commands.compare.command") == ""


def test_the_check_for_light_imports_can_fail() -> None:
    assert _heavy_after("import pandas") == "pandas"
