"""A team's store: a real PostgreSQL, opened directly and behind a real MLflow server."""

import json
import re
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import mlflow_store as stores
import postgres
import pytest
from postgres import PASSWORD, Postgres
from run_folders import make_folder
from terminal import Done, Terminal, ended, options, serving
from worlds import World

from benchmarks.campaign.hand import ERR, MOST_SECONDS, Forked, Job, fork_server, settle
from semseg_cli import tracking
from semseg_cli.commands import method_runs
from semseg_cli.runs.folder import RunFolder
from semseg_cli.tracking import patience, store_address

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def served(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, backend = tmp_path_factory.mktemp("team"), database.new_store()
    backend = store_address.for_mlflow(tracking.resolve_uri(backend))
    with stores.server(folder, stores.free_port(), backend) as uri:
        yield uri


@pytest.fixture(params=["direct", "behind a server"])
def uri(request: pytest.FixtureRequest, database: Postgres) -> str:
    """The address as a user types it."""
    is_direct = request.param == "direct"
    return database.new_store() if is_direct else str(request.getfixturevalue("served"))


@pytest.fixture(autouse=True)
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def run_tiny(terminal: Terminal, world: World, *more: str) -> Done:
    return terminal.type("auto-feat", *options(world), "--no-plots", "--quiet", *more)


def test_a_run_is_tracked_and_found_by_everybody(
    uri: str, tiny_world: World, terminal: Terminal, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = ["--tracking-uri", uri, "--experiment", "team"]
    root = tmp_path_factory.mktemp("shared with all")
    is_direct = uri.startswith("postgres")
    done = run_tiny(terminal, tiny_world, *at, *_root(root if is_direct else None))
    assert done.code == 0, done.err
    folder = RunFolder(terminal.runs()[0])
    run = tracking.find_run(tracking.resolve_uri(uri), folder.meta["mlflow_run_id"])
    assert run.status == "FINISHED"
    assert tracking.read_artifact(run, "report.json") == (folder.path / "report.json").read_bytes()
    if is_direct:
        assert run.artifacts.startswith((root / "team").as_uri())
    compared = terminal.type("compare", *at, "--format", "json")
    assert compared.code == 0, compared.err
    assert folder.meta["run_name"] in compared.out
    for said in (done, compared):
        assert PASSWORD not in said.out + said.err
    assert not list(terminal.folder.glob("mlruns*"))


def _root(folder: Path | None) -> list[str]:
    return ["--artifact-root", str(folder)] if folder else []


def test_a_password_is_in_no_file_and_no_store(
    database: Postgres, tiny_world: World, terminal: Terminal
) -> None:
    uri = database.new_store()
    root = terminal.folder / "root"
    done = run_tiny(terminal, tiny_world, "--tracking-uri", uri, *_root(root))
    assert done.code == 0, done.err
    secrets = [PASSWORD.encode(), uri.partition("//")[2].partition("@")[0].encode()]
    for path in terminal.folder.rglob("*"):
        assert not path.is_file() or not any(one in path.read_bytes() for one in secrets), path
    kept = database.texts(uri).encode()
    assert b"auto-feat" in kept
    assert not any(one in kept for one in secrets)


def test_where_artifacts_go_is_said_before_the_run(
    database: Postgres, tiny_world: World, terminal: Terminal
) -> None:
    at = ("--tracking-uri", database.new_store())
    (terminal.folder / "broken.pt").write_bytes(b"no weights")
    done = terminal.type("auto-feat", *options(tiny_world, sae_ckpt="broken.pt"), *at)
    assert done.code != 0
    said = f"go to {terminal.folder / 'mlruns'} on this machine"
    assert said in done.err
    assert done.err.index(said) < done.err.index("broken.pt")
    assert not terminal.runs()


def test_four_writers_at_once_lose_nothing(database: Postgres, served: str, tmp_path: Path) -> None:
    """The database is empty: the four find neither tables nor the experiment."""
    uris = [database.new_store(whole=False), served]
    each = [[make_folder(tmp_path / str(n), experiment="new") for _ in uris] for n in range(4)]
    all_four = fork_server().Barrier(4)
    places = [tmp_path / str(n) for n in range(4)]
    writers = [
        Forked(write, folders, all_four, Job(tuple(uris), str(place)))
        for folders, place in zip(each, places, strict=True)
    ]
    for one, place in zip(writers, places, strict=True):
        assert ended(one, place) == Done(0, "", "")
    for at, uri in enumerate(uris):
        found = tracking.find_runs(tracking.resolve_uri(uri), ["new"])
        assert {run.run_id for run in found} == {f[at].meta["mlflow_run_id"] for f in each}
        assert {run.status for run in found} == {"FINISHED"}
        assert {run.metrics["selectivity"] for run in found} == {each[0][0].report().selectivity}


def write(folders: Sequence[RunFolder], all_four: Barrier, job: Job) -> None:
    """Sends folders to stores, each at the same time as the other processes do."""
    patience.WAIT_SECONDS = 3600.0  # four make tables at once: a loaded machine takes its time
    for address, folder in zip(settle(job), folders, strict=True):
        all_four.wait(MOST_SECONDS)
        uri = tracking.resolve_uri(address)
        tracking.probe(uri)
        tracking.start(uri, [folder])
        tracking.log_folder(folder)


def test_a_database_that_stops_in_the_middle_loses_nothing(
    uri: str,
    database: Postgres,
    tiny_world: World,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop_and_write(*args: Any) -> None:
        database.stop()
        write(*args)

    write = method_runs.write_run
    monkeypatch.setattr(method_runs, "write_run", stop_and_write)
    at = ["--tracking-uri", uri, "--experiment", "stopped"]
    try:
        done = run_tiny(terminal, tiny_world, *at)
    finally:
        database.start()
    folder = RunFolder(terminal.runs()[0])
    assert done.code == 1
    assert re.fullmatch(r"semseg-cli: [^\n]*`semseg-cli upload [^\n]*\n", done.err), done.err
    assert PASSWORD not in done.err
    assert str(folder.report().class_results[0].class_name) in done.out
    assert (folder.meta["status"], folder.meta["uploaded"]) == ("FINISHED", False)
    sent = terminal.type("upload", str(folder.path), "--tracking-uri", uri)
    assert (sent.code, PASSWORD in sent.err) == (0, False), sent.err
    (run,) = tracking.find_runs(tracking.resolve_uri(uri), ["stopped"])
    assert (run.run_id, run.status) == (folder.meta["mlflow_run_id"], "FINISHED")
    assert tracking.read_artifact(run, "report.json") == (folder.path / "report.json").read_bytes()


def test_the_pages_of_a_database_are_shown_without_its_password(
    database: Postgres, tmp_path: Path
) -> None:
    uri = database.new_store()
    folder = make_folder(tmp_path / "runs", artifact_root=str(tmp_path / "root"))
    experiment = stores.stored(tracking.resolve_uri(uri), folder).meta["mlflow_experiment_id"]
    with serving(tmp_path, MLFLOW_TRACKING_URI=uri) as (_, address):
        host, _, page = address.partition("/#/")
        assert page.startswith(f"experiments/{experiment}/")
        asked = f"{host}/api/2.0/mlflow/experiments/get?experiment_id={experiment}"
        with build_opener(ProxyHandler({})).open(asked) as answer:
            assert json.load(answer)["experiment"]["name"] == "semseg"
        assert not any(PASSWORD in line or uri in line for line in _commands())
    assert PASSWORD not in (tmp_path / ERR).read_text()


def _commands() -> list[str]:
    """The command lines of this machine, which everybody sees."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return found
