"""Servers that answer wrongly, slowly, or not at all: one sentence each, and waits that end."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow_store as stores
import pytest
from run_folders import make_folder
from terminal import Terminal

from benchmarks.campaign.bad_servers import OK, Answer, Half, answering, drip, speaking
from semseg_cli import tracking
from semseg_cli.errors import SemsegError, StoreError, UsageError
from semseg_cli.runs.folder import RunFolder
from semseg_cli.settings.output import Output
from semseg_cli.tracking import credentials, failures, patience, store_address
from semseg_cli.tracking.experiments import check_experiment


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, "text/plain", b"x"), r"answers with status 500 \(Internal Server Error\)"),
        ((502, "text/html", b"<html>"), r"answers with status 502 \(Bad Gateway\)"),
        ((429, "text/plain", b"x"), r"answers with status 429 \(Too Many Requests\)"),
        ((401, "text/plain", b"x"), r"status 401 \(Unauthorized\): set MLFLOW_TRACKING_USERNAME"),
        ((418, "text/html", b"<html>"), "status 418 .* and an HTML page"),
        ((599, "text/plain", b"x"), "answers with status 599: "),
        ((302, "/login", b""), r"redirects every request to /login \(a login page\?\)"),
        ((200, "text/html", b"<html>"), "answers with an HTML page"),
        ((200, OK, b"[]"), "answers with text that is not JSON"),
        ((200, OK, b"{}"), "answers with empty JSON"),
        ((200, OK, b'{"experiments": [{}]}'), "answers with empty JSON"),
        ((200, OK, b'{"experiments": 5}'), "answers with JSON that is not MLflow's"),
        ((200, OK, b"\xff\xfe{"), "answers with|refuses"),
    ],
)
def test_a_wrong_answer_is_said(answer: Answer, words: str) -> None:
    with answering(lambda *_: answer) as uri, pytest.raises(StoreError, match=words) as caught:
        tracking.probe(uri)
    assert "\n" not in str(caught.value)
    assert "--no-track" in str(caught.value)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (lambda c: None, "breaks off its answer"),
        (lambda c: c.sendall(b"SSH-2.0-OpenSSH_9\r\n"), "not HTTP|breaks off"),
        (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "breaks off"),
    ],
)
def test_what_is_no_whole_answer_is_said(
    first: Callable[[socket.socket], object], words: str
) -> None:
    with speaking(first) as uri, pytest.raises(StoreError, match=words):
        tracking.probe(uri)


def test_a_server_without_tls_is_said() -> None:
    with (
        answering(lambda *_: (200, OK, b"{}")) as uri,
        pytest.raises(StoreError, match="does not speak TLS: is it http://"),
    ):
        tracking.probe(uri.replace("http:", "https:"))


def test_a_dripping_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAIT_SECONDS", 0.3)
    with speaking(drip) as uri, pytest.raises(StoreError, match=r"waiting for 0\.3 s .*few bytes"):
        tracking.probe(uri)
    assert patience.Patience().limit == 0.3


def test_patience_is_for_all_calls_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAIT_SECONDS", 0.2)
    one, never = patience.Patience(), threading.Event()
    assert one.wait_for(lambda: 5) == 5
    with pytest.raises(patience.OutOfPatience):
        one.wait_for(never.wait)
    with pytest.raises(patience.OutOfPatience):
        one.wait_for(lambda: 5)
    never.set()


def test_an_error_of_the_work_is_its_own() -> None:
    def late() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        patience.Patience().wait_for(late)


def test_big_runs_have_the_time_that_they_need() -> None:
    assert patience.Patience(10**9).limit == 10**9 / patience.BYTES_PER_SECOND
    assert patience.Patience(10).limit == patience.WAIT_SECONDS


# Addresses


@pytest.mark.parametrize("uri", ["http://", "postgresql://", "http://[::1", "mysql+x:", "http:/h"])
def test_half_an_address_is_told(uri: str) -> None:
    with pytest.raises(StoreError, match="is no address: give http://HOST:PORT"):
        tracking.resolve_uri(uri)


@pytest.mark.parametrize("uri", ["localhost:5000", "tracker.example.org:5000", "127.0.0.1:80/x"])
def test_an_address_without_a_scheme_is_told(uri: str) -> None:
    with pytest.raises(StoreError, match=f"says no scheme: give --tracking-uri http://{uri}"):
        tracking.resolve_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://alice:s3cretw0rd@h:5000",
        "https://alice:s3cret%2Fw0rd@h",
        "postgresql://alice:s3cretw0rd@h/db?sslmode=require",
        "postgresql+psycopg2://alice:s3cretw0rd@h/db",
        "http://s3cretw0rd@h",
    ],
)
def test_an_address_is_known_without_its_password(uri: str) -> None:
    shown = tracking.resolve_uri(uri)
    assert "s3cret" not in shown
    assert "alice" not in shown
    assert credentials.whole(shown) == uri
    assert "s3cret" not in credentials.scrubbed(f"no route to {uri}, not for 's3cretw0rd'")


@pytest.mark.parametrize(
    "uri",
    [
        "htp://alice:s3cretw0rd@h:1",
        "alice:s3cretw0rd@h:5000",
        "http://alice:s3cretw0rd@h:port",
        "http://alice:s3cretw0rd/x@h",
        "http://alice:1/s3cretw0rd@h",
        "http://alice:s3cretw0rd#x@h",
        "http://alice:s3cretw0rd?x@h",
        "http://alice:s3cretw0rd@",
        "file://alice:s3cretw0rd@h/x",
    ],
)
def test_a_wrong_address_is_told_without_its_password(uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        tracking.resolve_uri(uri)
    assert "s3cret" not in str(caught.value)
    assert "alice" not in str(caught.value)


def test_a_store_of_the_environment_opens_the_runs_that_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:an0therw0rd@store:1/")
    assert tracking.resolve_uri("http://store:1") == "http://store:1"
    assert store_address.for_mlflow("http://store:1") == "http://bob:an0therw0rd@store:1"


@pytest.mark.parametrize("name", ["a b.db", "a%20b.db", "100%.db", "why?.db", "é#.db"])
def test_a_sqlite_address_is_the_file_that_it_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    plain = f"sqlite:///{tmp_path}/there/{name.replace('%', '%25').replace('?', '%3F')}"
    uri = tracking.resolve_uri(plain)
    assert tracking.resolve_uri(uri) == uri
    path = store_address.sqlite_path(uri)
    assert path == tmp_path / "there" / name
    path.write_bytes(stores.empty_store())
    tracking.probe(uri)
    assert [p.name for p in (tmp_path / "there").iterdir() if p.suffix == ".db"] == [name]


def test_a_question_mark_in_a_sqlite_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has a \? in its path.*write it %3F"):
        tracking.resolve_uri("sqlite:///why?.db")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "postgresql+psycopg://u:s3cretw0rd@127.0.0.1:1/db",
            r"pip install 'semseg-cli\[postgres\]'",
        ),
        ("mysql+nosuchdriver://u:s3cretw0rd@127.0.0.1:1/db", "nosuchdriver"),
    ],
)
def test_a_missing_driver_is_told(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_address, "check_reachable", lambda uri: None)
    with pytest.raises(StoreError, match=words) as caught:
        tracking.probe(tracking.resolve_uri(uri))
    assert "s3cret" not in str(caught.value)


# Experiments and where their artifacts lie


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return stores.new_store(tmp_path)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3://bucket/mlflow", r"s3://bucket/mlflow \(the Python module boto3 is not installed"),
        ("file:///proc/team/mlruns", r"file:///proc/team/mlruns \(.*No such file or directory"),
        ("mlflow-artifacts:/1", r"mlflow-artifacts:/1 \("),
    ],
)
def test_artifacts_that_cannot_be_stored_are_told_before_the_run(
    uri: str, location: str, words: str
) -> None:
    stores.client(uri).create_experiment("semseg", location)
    with pytest.raises(StoreError, match=f"Artifacts of the experiment 'semseg' .* {words}"):
        check_experiment(uri, "semseg")


def test_an_artifact_root_holds_for_a_new_experiment_only(uri: str, tmp_path: Path) -> None:
    root = str(tmp_path / "team")
    assert check_experiment(uri, "new", root=root) is None
    folder = make_folder(tmp_path / "runs", experiment="new", artifact_root=root)
    stores.stored(uri, folder)
    assert (tmp_path / "team" / "new" / folder.meta["mlflow_run_id"] / "artifacts").is_dir()
    check_experiment(uri, "new", root=root)
    with pytest.raises(UsageError, match="the experiment 'new' exists and keeps its artifacts in"):
        check_experiment(uri, "new", root="s3://elsewhere")


def test_a_deleted_experiment_is_told_before_the_run(uri: str) -> None:
    api = stores.client(uri)
    api.delete_experiment(api.create_experiment("semseg"))
    with pytest.raises(StoreError, match="'semseg' was deleted"):
        check_experiment(uri, "semseg")


def test_the_run_of_mlflow_run_is_looked_at_before_the_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "5" * 32)
    with pytest.raises(StoreError, match=r"Run with id=5+ not found"):
        check_experiment(uri, "semseg")
    monkeypatch.delenv("MLFLOW_RUN_ID")
    done = stores.stored(uri, make_folder(tmp_path / "runs", experiment="other"))
    assert done.meta["mlflow_run_id"]
    monkeypatch.setenv("MLFLOW_RUN_ID", done.meta["mlflow_run_id"])
    with pytest.raises(StoreError, match="holds a run of semseg-cli already"):
        check_experiment(uri, "semseg")


def test_variables_of_mlflow_name_the_experiment(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Output().experiment_name == "semseg"
    made = stores.client(uri).create_experiment("by id")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", made)
    assert Output().experiment_id == made
    folder = make_folder(tmp_path / "runs", mlflow_experiment_id=Output().experiment_id)
    tracking.start(uri, [folder])
    assert folder.meta["experiment"] == "by id"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    assert (Output().experiment_name, Output().experiment_id) == ("by name", None)
    assert Output(experiment="given").experiment_name == "given"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(StoreError, match="77"):
        check_experiment(uri, "semseg", "77")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tags": ("note=" + "v" * 8001,)}, "tag begins with 'v+' and has 8001 .* 8000 at most"),
        ({"tags": ("a=b\0",)}, "null character"),
        ({"experiment": "x" * 501}, "experiment begins with .* 500 at most"),
        ({"experiment": " "}, "give it a name"),
        ({"run_name": "n" * 251}, "250 at most"),
    ],
)
def test_names_that_a_store_does_not_take_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Output(**options)


# In the middle of a run


WRONG: Sequence[Answer] = ((500, "text/plain", b"x"), (200, OK, b'{"run": 5}'))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_goes_wrong_in_the_middle_loses_nothing(
    wrong: Answer, tmp_path: Path
) -> None:
    whole = Half(10**6, wrong)
    with answering(whole) as uri:
        stores.stored(uri, make_folder(tmp_path / "whole"))
    for n_right in range(0, whole.asked, 4):
        folder = make_folder(tmp_path / str(n_right))
        with answering(Half(n_right, wrong)) as uri:
            said = _said_of(uri, folder)
        assert "\n" not in said
        assert folder.report().class_results
        assert folder.meta["uploaded"] == (said == "")


def _said_of(uri: str, folder: RunFolder) -> str:
    try:
        stores.stored(uri, folder)
    except SemsegError as error:
        return str(error)
    return ""


def test_runs_that_are_no_runs_are_told() -> None:
    half = Half(10**6, WRONG[0])

    def ask(path: str, body: bytes) -> Answer | None:
        return (200, OK, b'{"runs": [{}]}') if path.endswith("runs/search") else half(path, body)

    with answering(ask) as uri, pytest.raises(StoreError, match="not an MLflow run"):
        tracking.find_runs(uri)


def test_a_hanging_store_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semseg_cli.commands.recording import track

    monkeypatch.setattr(patience, "WAIT_SECONDS", 0.3)
    folders = [make_folder(tmp_path / "runs", scale=-float(n)) for n in range(1, 4)]
    with speaking(drip) as uri:
        for folder in folders:
            folder.update(tracking_uri=uri, mlflow_run_id="a" * 32)
        began = time.monotonic()
        said = track(folders)
    assert all("semseg-cli upload" in one for one in said.values())
    assert len(said) == 3
    assert time.monotonic() - began < 30 * 0.3


def test_a_password_is_nowhere(tmp_path: Path, terminal: Terminal) -> None:
    def ask(path: str, body: bytes) -> Answer | None:
        asked.append(path.encode() + body)
        return half(path, body)

    half, asked = Half(10**6, WRONG[0]), list[bytes]()
    with answering(ask) as server:
        shown = tracking.resolve_uri(server.replace("//", "//alice:s3cretw0rd@"))
        folder = stores.stored(shown, make_folder(tmp_path / "runs"))
    assert not any(b"s3cretw0rd" in one for one in asked)
    for path in folder.path.rglob("*"):
        assert not path.is_file() or b"s3cretw0rd" not in path.read_bytes()
    done = terminal.type("upload", str(folder.path))
    assert done.code == 1
    assert "s3cretw0rd" not in done.err


def test_what_is_told_of_tls_names_no_class_of_python() -> None:
    error = ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED: self-signed")
    said, advice = failures.sentence("https://h", error)
    assert said == "The tracking store https://h has a certificate that is not trusted"
    assert "REQUESTS_CA_BUNDLE" in advice
