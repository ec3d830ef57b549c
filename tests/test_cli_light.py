"""What the command line does before anything heavy loads."""

import gc
import json
import mmap
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from _pytest.capture import CaptureFixture
from terminal import Terminal, options
from worlds import World

from semseg_cli.__main__ import NEW_OBJECTS, main
from semseg_cli.cli import app, root_command, run
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Setup, VitFamily
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS, Method
from semseg_cli.settings.output import Shown
from semseg_cli.settings.toml_files import KNOWN
from semseg_cli.settings.training import Training

HEAVY = (
    "torch",
    "mlflow",
    "transformers",
    "numpy",
    "pandas",
    "beartype",
    "jaxtyping",
    "PIL",
    "matplotlib",
)
METHOD_COMMANDS = tuple(method.command for method in METHODS)
MAKING = ("stats", "train-head")
COMMANDS = (
    "lookup",
    *METHOD_COMMANDS,
    "suite",
    *MAKING,
    "doctor",
    "compare",
    "ui",
    "upload",
    "env",
    "demo",
    "cache",
    "presets",
)


def imported(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter has loaded after running the code."""
    report = f"import sys; print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def paths(command: object, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that call the command and everything below it."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, *path, name)


HELP_OF_EACH = """
import contextlib, io, json, sys
from semseg_cli.cli import run

calls, heavy = json.loads(sys.argv[1])
found = {}
for call in calls:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        run([*call, "--help"])
    loaded = [module for module in heavy if module in sys.modules]
    found[" ".join(call)] = {"is_help": "Usage: " in out.getvalue(), "loaded": loaded}
print(json.dumps(found))
"""


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    """One process for them all: the first command to load something is named, and all after it."""
    calls = list(paths(root_command()))
    assert {call[0] for call in calls if call} == set(COMMANDS)
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_EACH, json.dumps([calls, HEAVY])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(calls)
    assert all(help["is_help"] for help in found.values())
    assert {call: help["loaded"] for call, help in found.items() if help["loaded"]} == {}


ENDS_OF_EACH = """
import contextlib, io, json, sys
from semseg_cli.cli import run

found = []
for call in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            run(call)
        except SystemExit as end:
            found.append([end.code, err.getvalue(), "torch" in sys.modules])
print(json.dumps(found))
"""
NOT_THERE = {
    "sae-ckpt": "The SAE file no cannot be read (No such file or directory): check --sae-ckpt",
    "vit-ckpt": "The ViT folder /no does not exist or is no folder: check --vit-ckpt",
    "seg-ckpt": "The head no cannot be read (No such file or directory): check --seg-ckpt",
    "imgs-root": "The dataset folder no does not exist: check --imgs-root",
    "lookup": "The lookup no.csv cannot be read (No such file or directory): give a lookup.csv",
    "stats": "--stats: no cannot be read (No such file or directory): give a .safetensors or .json "
    "file of statistics, or a run folder that has one",
    "act-mean": "The statistic act_mean cannot be read: no cannot be read (No such file",
}
LACKS = {
    "lookup": {"seg-ckpt", "lookup"},
    "stats": {"lookup"},
    "suite": {"lookup", "stats", "act-mean"},  # of several SAEs these are several, too
    "train-head": {"sae-ckpt", "seg-ckpt", "lookup", "stats", "act-mean"},
}


def test_inputs_that_are_not_there_are_told_before_torch_loads(
    tiny_world: World, terminal: Terminal
) -> None:
    """One process for them all: the first command to load torch is found, and all after it."""
    values = {"vit-ckpt": "/no", "lookup": "no.csv"}
    named = dict(zip(*[iter(options(tiny_world))] * 2, strict=True))
    inputs = {f"--{name}" for name in ("sae-ckpt", "vit-ckpt", "seg-ckpt", "imgs-root")}
    calls, sentences = [], []
    for command in ("lookup", *METHOD_COMMANDS, "suite", *MAKING):
        lacks = LACKS.get(command, set())
        for name in (name for name in NOT_THERE if name not in lacks):
            given = {flag: named[flag] for flag in inputs if flag.removeprefix("--") not in lacks}
            words = {**given, f"--{name}": values.get(name, "no")}
            calls.append([command, *(part for pair in words.items() for part in pair)])
            sentences.append(NOT_THERE[name])
    done = subprocess.run(
        [sys.executable, "-c", ENDS_OF_EACH, json.dumps(calls)],
        capture_output=True,
        text=True,
        cwd=terminal.folder,
    )
    assert done.returncode == 0, done.stderr
    for call, said, (code, err, is_loaded) in zip(
        calls, sentences, json.loads(done.stdout), strict=True
    ):
        assert err.startswith(f"semseg-cli: {said}"), call
        assert (code, is_loaded) == (1, False), call


def test_the_import_guard_can_fail() -> None:
    assert "PIL" in imported("import PIL")


def test_settings_import_nothing_heavy() -> None:
    assert (
        imported("from semseg_cli.settings.reference import Quantitative; Quantitative()") == set()
    )


def test_compare_on_a_missing_store_imports_neither_torch_nor_matplotlib() -> None:
    code = "from semseg_cli.cli import run; run(['compare', '--tracking-uri', 'sqlite:///no.db'])"
    assert not imported(code) & {"torch", "transformers", "matplotlib"}


def test_listing_the_cache_imports_nothing_heavy() -> None:
    code = "from semseg_cli.cli import run; run(['cache', 'list', '--cache-dir', 'none'])"
    assert imported(code) == set()


def test_pictures_import_matplotlib_when_they_draw_and_torch_never() -> None:
    assert not imported("import semseg_cli.show.run_pictures") & {"torch", "matplotlib"}
    assert "matplotlib" in imported("import semseg_cli.show.charts")


def call(*args: str) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as ended:
        run(list(args))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(
    command: str, capsys: CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert call(command, "--help") == 0
    out = capsys.readouterr().out
    assert "Usage" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_command_is_listed(capsys: CaptureFixture[str]) -> None:
    assert call("--help") == 0
    out = capsys.readouterr().out
    names = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert names == set(COMMANDS)
    assert all(f" {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_is_an_option(method: type[Method], capsys: CaptureFixture[str]) -> None:
    assert call(method.command, "--help-all") == 0
    out = capsys.readouterr().out
    for cls in (method, Setup, Shown):
        for entry in entries(cls):
            assert f"{entry.flag} " in out, entry.flag


def test_lookup_has_the_options_of_a_choice(capsys: CaptureFixture[str]) -> None:
    assert call("lookup", "--help-all") == 0
    out = capsys.readouterr().out
    assert all(f"{entry.flag} " in out for entry in entries(Choose))


def test_train_head_has_the_options_of_a_training_and_none_of_an_autoencoder(
    capsys: CaptureFixture[str],
) -> None:
    assert call("train-head", "--help-all") == 0
    out = capsys.readouterr().out
    assert all(f"{entry.flag} " in out for entry in entries(Training))
    assert not any(name in out for name in ("--sae-ckpt", "--seg-ckpt", "--act-mean", "--class"))


def test_many_choices_are_listed_in_the_help_text(capsys: CaptureFixture[str]) -> None:
    """Beside the option they would leave no room for the names of other options."""
    assert call("auto-feat", "--help-all") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--vit-family NAME" in out
    for family in get_args(VitFamily):
        assert family in out.split("--vit-family")[1].split("--vit-ckpt")[0]


def commands_in(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by what is typed for it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_in(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_an_option_reads_its_variable_in_every_command() -> None:
    deaf = {
        (path, param.name)
        for path, command in commands_in(root_command())
        for param in command.params
        if param.opts[0].removeprefix("--").replace("-", "_") in KNOWN
        and not (param.multiple or param.envvar)
    }
    assert deaf == {("demo build", "seed")}  # of another world, not of a run


_STOPPED_WHILE_LOADING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "semseg_cli.settings.options":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from semseg_cli.__main__ import main
main()
"""


def test_a_ctrl_c_while_it_loads_prints_no_traceback() -> None:
    words = [sys.executable, "-c", _STOPPED_WHILE_LOADING]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_command_looks_for_garbage_seldom_and_not_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end() -> None:
        raise SystemExit(3)

    before, threshold = signal.getsignal(signal.SIGINT), gc.get_threshold()
    monkeypatch.setattr("semseg_cli.cli.run", end)
    monkeypatch.setattr("semseg_cli.__main__.keep_memory", lambda: None)  # not of this process
    try:
        with pytest.raises(SystemExit, match="3"):
            main()
        assert gc.get_threshold()[0] == NEW_OBJECTS
        assert gc.get_freeze_count() > 1000
        gc.unfreeze()
        monkeypatch.setitem(sys.modules, "triton", sys)
        with pytest.raises(SystemExit, match="3"):
            main()
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
        signal.signal(signal.SIGINT, before)


_FAULTS = """
import resource, sys
from semseg_cli.__main__ import keep_memory

def passes(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        _held = [bytearray(b"x") * 2**24 for _ in range(4)]
        del _held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1:]:
    keep_memory()
passes(2)
print(passes(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_a_command_keeps_the_pages_of_what_is_freed() -> None:
    def faults(*words: str) -> int:
        line = [sys.executable, "-c", _FAULTS, *words]
        return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)

    assert faults() > 10 * 2**26 // mmap.PAGESIZE // 2
    assert faults("keep") < 100
