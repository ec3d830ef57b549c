"""`semseg-cli ui`: the page it opens, the server behind it, and how both end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import mlflow_store as stores
import pytest
from run_folders import make_folder, make_report
from terminal import Terminal, ended, serving

from benchmarks.campaign.hand import Job, Started, become, tell
from semseg_cli import tracking
from semseg_cli.commands import ui as ui_module
from semseg_cli.commands.ui import open_ui
from semseg_cli.errors import SemsegError
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.settings.output import Ui
from semseg_cli.tracking import saved_view, ui_server

MOST_OF_A_TAG = 5000  # characters that MLflow takes in a tag of an experiment


@pytest.fixture
def uri(terminal: Terminal) -> str:
    return f"sqlite:///{terminal.folder}/mlflow.db"


def store_run(uri: str, **meta: Any) -> str:
    """The id of the experiment of a new run."""
    folder = stores.stored(uri, make_folder(Path("runs"), **meta))
    return str(folder.meta["mlflow_experiment_id"])


# The view


def test_the_view_fits_a_tag_and_is_what_the_front_end_reads() -> None:
    text = saved_view.view_text()
    assert len(text) < MOST_OF_A_TAG
    saved = json.loads(text)
    assert (type(saved["name"]), type(saved["createdAt"])) == (str, int)
    assert json.loads(saved["state"])["selectedColumns"][0] == "params.`select`"


def test_the_view_shows_numbers_and_settings_that_runs_have() -> None:
    metrics = set(make_report().metrics())
    params = {entry.key for cls in (Setup, AutoFeat) for entry in entries(cls)}
    for group, name, _ in saved_view.COLUMNS[1:]:
        assert name in (metrics if group == "metrics" else params), name
    for axes in saved_view.CHARTS:
        assert {axes} if isinstance(axes, str) else set(axes) <= metrics


def test_the_front_end_of_this_mlflow_knows_the_names_of_the_view() -> None:
    import mlflow

    build = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    known = "".join(path.read_text(encoding="utf-8") for path in build.glob("main.*.js"))
    state = json.loads(json.loads(saved_view.view_text())["state"])
    for name in ("mlflow.sharedViewState.", "viewStateShareKey", "workflowType", *state):
        assert name in known, name


def test_a_new_experiment_explains_its_numbers_and_has_the_view(uri: str) -> None:
    tags = stores.client(uri).get_experiment(store_run(uri)).tags
    assert tags[saved_view.VIEW_TAG] == saved_view.view_text()
    assert "`target_change`: share of the patches" in tags["mlflow.note.content"]


# The page


def test_the_page_is_that_of_the_newest_run(uri: str) -> None:
    store_run(uri, experiment="older", created="2026-01-01T00:00:00+00:00")
    older = store_run(uri, experiment="older")
    newer = store_run(uri, experiment="newer")
    assert f"/experiments/{newer}/runs?" in tracking.runs_page(uri)
    assert f"/experiments/{older}/runs?" in tracking.runs_page(uri, "older")


def test_an_experiment_made_elsewhere_gets_the_view_once(uri: str) -> None:
    api = stores.client(uri)
    api.create_experiment("mine")
    experiment = store_run(uri, experiment="mine")
    assert saved_view.VIEW_TAG not in api.get_experiment(experiment).tags
    assert tracking.runs_page(uri).endswith(f"viewStateShareKey={saved_view.VIEW}")
    assert api.get_experiment(experiment).tags[saved_view.VIEW_TAG] == saved_view.view_text()
    api.set_experiment_tag(experiment, saved_view.VIEW_TAG, "changed in the UI")
    tracking.runs_page(uri)
    assert api.get_experiment(experiment).tags[saved_view.VIEW_TAG] == "changed in the UI"


def test_a_store_that_takes_no_view_shows_its_own_columns(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    def refuse(*_: Any) -> None:
        raise MlflowException("attempt to write a readonly database")

    stores.client(uri).create_experiment("mine")
    experiment = store_run(uri, experiment="mine")
    monkeypatch.setattr(mlflow.MlflowClient, "set_experiment_tag", refuse)
    page = tracking.runs_page(uri)
    assert page == f"/#/experiments/{experiment}/runs?workflowType=machine_learning"


def test_nothing_to_open_is_a_sentence(uri: str, terminal: Terminal) -> None:
    for options, sentence in (
        ([], "no run in the tracking store yet: make one with `semseg-cli auto-feat`"),
        (["--experiment", "x"], "no experiment 'x' in the tracking store (there are: Default)"),
        (["--tracking-uri", "sqlite:///none.db"], "none.db and so no run: make one"),
        (["--tracking-uri", "databricks"], "Databricks shows runs in its own pages"),
        (["--tracking-uri", f"http://127.0.0.1:{stores.free_port()}"], "Nothing answers at"),
    ):
        done = terminal.type("ui", *options)
        assert done.code == 1
        assert sentence in done.err
        assert done.out == ""
    assert not (terminal.folder / "none.db").exists()


# The port and the browser


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ui_server.HOST, 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_in_use_is_a_sentence(uri: str, terminal: Terminal, taken: int) -> None:
    store_run(uri)
    done = terminal.type("ui", "--port", str(taken))
    assert done.code == 1
    assert f"Port {taken} of 127.0.0.1 cannot be taken (Address already in use)" in done.err
    assert terminal.type("ui", "--port", "70000").code == 2


def test_another_port_is_taken_where_the_usual_one_is_in_use(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(ui_server, "PORT", taken)
    port = ui_server.choose_port(None)
    assert port != taken
    assert ui_server.choose_port(port) == port
    monkeypatch.setattr(ui_server, "PORT", port)
    assert ui_server.choose_port(None) == port


def test_two_that_start_at_once_take_two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither listens yet: the second one knows of the first by its claim."""
    port = stores.free_port()
    monkeypatch.setattr(ui_server, "PORT", port)
    assert ui_server.choose_port(None) == port
    code = (
        "from semseg_cli.tracking import ui_server; import sys\n"
        f"ui_server.PORT = {port}\n"
        "assert ui_server.choose_port(None) != ui_server.PORT\n"
        "ui_server.choose_port(ui_server.PORT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"Port {port} of 127.0.0.1 cannot be taken (another semseg-cli ui is" in done.stderr


@pytest.mark.parametrize(
    ("is_terminal", "display", "no_browser", "opens"),
    [
        (True, ":0", False, True),
        (True, ":0", True, False),
        (True, None, False, False),
        (False, ":0", False, False),
    ],
)
def test_a_browser_opens_from_a_terminal_with_a_screen(
    is_terminal: bool,
    display: str | None,
    no_browser: bool,
    opens: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setattr(tracking, "runs_page", lambda uri, experiment: "/#/runs")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    open_ui(Ui(tracking_uri="http://me:secret@tracker:5000/", no_browser=no_browser))
    assert capsys.readouterr().out == "http://tracker:5000/#/runs\n"
    assert opened == (["http://tracker:5000/#/runs"] if opens else [])


# The server


def test_a_server_that_ends_by_itself_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "print('first'); print('out of memory'); raise SystemExit(3)"
    monkeypatch.setattr(ui_server, "COMMAND", (sys.executable, "-c", script))
    with (
        pytest.raises(SemsegError, match=r"mysql://db has ended by itself \(out of memory\)"),
        ui_server.serving("mysql://me:secret@db", stores.free_port()),
    ):
        raise AssertionError("it never answers")


def test_a_silent_server_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # It ignores SIGTERM, and has a child that does too.
    script = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"os.fork(); pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
    )
    start, started = ui_server._start, []

    def start_both(*args: Any) -> Any:
        process = start(*args)
        while len(paths := list(tmp_path.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        started.append([int(path.name) for path in paths])
        return process

    monkeypatch.setattr(ui_server, "COMMAND", (sys.executable, "-c", script))
    monkeypatch.setattr(ui_server, "_start", start_both)
    monkeypatch.setattr(ui_server, "START_SECONDS", 0.2)
    monkeypatch.setattr(ui_server, "STOP_SECONDS", 0.2)
    with (
        pytest.raises(SemsegError, match=r"has not answered within 0\.2 s"),
        ui_server.serving("sqlite:///x.db", stores.free_port()),
    ):
        raise AssertionError("it never answers")
    (numbers,) = started
    while any(is_running(number) for number in numbers):  # the kernel takes a moment
        time.sleep(0.01)


def test_a_killed_command_takes_its_server_with_it(tmp_path: Path) -> None:
    # The server ends when it is asked to; its child does not.
    server = (
        "import os, pathlib, signal, sys, time; child = os.fork() == 0;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN if child else signal.SIG_DFL);"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(600)"
    )
    command = (
        "import sys, threading; from semseg_cli.tracking import ui_server;"
        f"ui_server.STOP_SECONDS = 0.2; ui_server.COMMAND = (sys.executable, '-c', {server!r});"
        "ui_server._start('sqlite:///x.db', 1, sys.stdout.fileno()); threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", command]) as process:
        while len(paths := list(tmp_path.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    while any(is_running(int(path.name)) for path in paths):
        time.sleep(0.01)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def get(address: str) -> str:
    with build_opener(ProxyHandler({})).open(address) as answer:
        return str(answer.read().decode())


STUB = (
    "import sys; from http.server import *; class_ = type('Page', (BaseHTTPRequestHandler,), {"
    "'do_GET': lambda page: (page.send_response(200), page.end_headers())});"
    "HTTPServer(('127.0.0.1', int(sys.argv[-1])), class_).serve_forever()"
)  # in place of MLflow's server, which takes 15 s to load


def ui_of_a_stub(job: Job) -> None:
    """Turns this process into the command, with that server."""
    ui_server.COMMAND = (sys.executable, "-c", STUB)
    become(job)


def require_ended(process: Started, terminal: Terminal, uri: str, host: str) -> None:
    """The command has ended well, without another word, and nothing listens any more."""
    done = ended(process, terminal.folder)
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert done.err.endswith(f"MLflow serves {uri} until you press Ctrl-C.\n")
    with socket.socket() as free:
        assert free.connect_ex((ui_server.HOST, int(host.rpartition(":")[2]))) != 0


@pytest.mark.slow
def test_the_command_serves_the_store_until_it_is_stopped(uri: str, terminal: Terminal) -> None:
    experiment = store_run(uri)
    with serving(terminal.folder) as (process, address):
        host, _, page = address.partition("/#/")
        assert page.startswith(f"experiments/{experiment}/runs?")
        found = get(f"{host}/api/2.0/mlflow/experiments/get?experiment_id={experiment}")
        assert json.loads(found)["experiment"]["name"] == "semseg"
        assert "<title>MLflow</title>" in get(host)
        other = terminal.type("ui", "--tracking-uri", host)
        assert (other.code, other.out.strip()) == (0, address)
        tell(process, signal.SIGINT)
        require_ended(process, terminal, uri, host)


@pytest.mark.slow
def test_a_terminal_that_closes_ends_the_server_too(uri: str, terminal: Terminal) -> None:
    store_run(uri)
    with serving(terminal.folder, ui_of_a_stub) as (process, address):
        tell(process, signal.SIGHUP)
        require_ended(process, terminal, uri, address.partition("/#/")[0])


@pytest.mark.slow
def test_a_server_that_is_killed_ends_the_command_with_a_sentence(
    uri: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_run(uri)
    start = ui_server._start

    def start_and_remember(*args: Any) -> Any:
        started.append(start(*args))
        return started[-1]

    started: list[Any] = []
    monkeypatch.setattr(ui_server, "COMMAND", (sys.executable, "-c", STUB))
    monkeypatch.setattr(ui_server, "_start", start_and_remember)
    monkeypatch.setattr(ui_module, "_show", lambda *_: os.killpg(started[0].pid, signal.SIGKILL))
    done = terminal.type("ui", "--port", str(stores.free_port()))
    assert done.code == 1
    assert "has ended by itself" in done.err
