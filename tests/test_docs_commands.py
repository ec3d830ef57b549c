"""Every command line of README and docs runs, with a small world in place of what it names."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import tomli_w
from terminal import Terminal, interrupted, options, working_in
from test_docs import PAGES, typed
from worlds import World, make_sae, make_tiny_world

from semseg_cli.models import sae as saes
from semseg_cli.runs.folder import RunFolder

ELSEWHERE = {  # commands that other tests run, and where: they serve, or use the demo world
    "ui": "commands/test_ui.py",
    "demo export": "demo/test_demo_runs.py",
    "auto-feat --config my-demo/demo.toml": "demo/test_demo_runs.py",
}
NEVER = ("demo build",)  # trains a ViT for many minutes; it is parsed, as all others are
FEW_NULLS = ("--peers", "2", "--matched-peers", "2", "--matched-images", "2", "--images", "3")
TRAINED = ("--epochs", "2")  # where a page gives no number
STOPPED = "20260101-120000-auto-feat-x-2-1a2b"  # of docs/results.md
LAYERS = {"3": "1", "6": "2", "9": "3", "11": "2"}
CLASSES = {"sand": "wall", "sea": "sky"}


def known_elsewhere(words: Sequence[str]) -> str | None:
    line = " ".join(words)
    return next((there for begin, there in ELSEWHERE.items() if line.startswith(begin)), None)


COMMANDS = list(
    dict.fromkeys(tuple(words) for page in PAGES for words in typed(page) if words[0] != "--help")
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The files that pages name, by the names that they have there."""
    made = make_tiny_world(tmp_path_factory.mktemp("named"))
    (made.folder / "saes").mkdir()
    saes.save(made.folder / "saes" / "other.pt", make_sae(seed=4))
    shutil.copy(made.folder / "sae.pt", made.folder / "saes" / "one.pt")
    return made


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as someone has it who followed the pages so far: runs, a head, statistics."""
    with working_in(tmp_path_factory.mktemp("finished")) as terminal:
        for args in (
            ("lookup", *options(world, min_patches=""), "--select", "cause", "--max-group", "3"),
            ("auto-feat", *options(world)),
            ("rand-feat", *options(world)),
            ("train-head", *trained_on(world), "--epochs", "2", "--save", "head.safetensors"),
            ("stats", *options(world, max_freq="", min_patches=""), "--save", "stats.safetensors"),
        ):
            done = terminal.type(*args, "--quiet")
            assert done.code == 0, done.err
        shutil.copy(world.folder / "head.pt", "head.pt")
        shutil.copy("stats.safetensors", "s.safetensors")
        settings = {key: in_toml(value) for key, value in settings_of(world).items()}
        for name in ("mine.toml", "run.toml"):
            Path(name).write_text(tomli_w.dumps(settings))
        stop(terminal, world)
        yield terminal.folder


def trained_on(world: World) -> list[str]:
    return options(world, vit_layer="", sae_ckpt="", seg_ckpt="", max_freq="", min_patches="")


def settings_of(world: World) -> dict[str, str]:
    given = options(world, batch_size="")
    pairs = zip(given[::2], given[1::2], strict=True)
    return {flag[2:].replace("-", "_"): value for flag, value in pairs}


def in_toml(value: str) -> str | int | float:
    """A number where it is one."""
    return int(value) if value.isdecimal() else 1.0 if value == "1.0" else value


def stop(terminal: Terminal, world: World) -> None:
    """Leaves the run that docs/results.md goes on with."""
    args = ("auto-feat", *options(world, batch_size="1"), "--no-track", "--quiet")
    interrupted(terminal, 4, *args)
    terminal.runs()[-1].rename(Path("semseg-runs") / STOPPED)


@pytest.fixture
def there(
    world: World, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A copy of that folder, and a shell in which the parts of the world are the defaults."""
    with working_in(tmp_path) as terminal:
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        for key, value in settings_of(world).items():
            monkeypatch.setenv(f"SEMSEG_{key.upper()}", value)
        yield terminal


def named_there(words: Sequence[str], world: World, terminal: Terminal) -> list[str]:
    """The command with this world's files, classes and runs for those that a page names."""
    mine = run_of(terminal, "auto-feat")
    lookup = run_of(terminal, "lookup")
    there: dict[str, Callable[[str], str]] = {
        "--vit-ckpt": lambda _: str(world.folder / "vit"),
        "--vit-layer": lambda value: LAYERS[value],
        "--sae-ckpt": lambda value: str(world.folder / sae_named(value)),
        "--imgs-root": lambda _: str(world.data),
        "--seg-ckpt": str,  # the head that another command of the pages made
        "--class": lambda value: CLASSES.get(value, value),
        "--lookup": lambda value: str(lookup / "groups.csv" if "groups" in value else mine),
        "--artifact-root": lambda _: str(terminal.folder / "artifacts"),
        "--tracking-uri": str,
        "--experiment": str,
    }
    left, found = list(words[: words.index(">")] if ">" in words else words), []
    is_preset_shown = words[0] == "presets"
    while left:
        word = left.pop(0)
        if word == "--preset" and not is_preset_shown:
            left.pop(0)  # the world's own parts stand for a preset's
        elif word == "--resume" and words[0] == "train-head":
            found += [word, str(run_of(terminal, "train-head"))]
            left.pop(0)
        elif word == "--config" and left[0].startswith("RUN"):
            found += [word, str(run_of(terminal, "train-head") / "settings.toml")]
            left.pop(0)
        elif word in there:
            found += [word, there[word](left.pop(0))]
        elif word in ("semseg-runs/MINE", "FOLDER", "RUN_OF_ONE_SAE"):
            found.append(str(mine))
        elif word == "RUN_OF_THE_OTHER":
            found.append(str(run_of(terminal, "rand-feat")))
        elif word == "3f2a":
            found.append(cached_entry(terminal))
        else:
            found.append(word)
    return [*found, *more_for(words)]


def sae_named(value: str) -> str:
    """`saes/*` as it is; of single files the second is another SAE."""
    if "*" in value:
        return value
    return "saes/other.pt" if Path(value).stem in ("b", "other") else "sae.pt"


def more_for(words: Sequence[str]) -> tuple[str, ...]:
    """What makes a long command short."""
    if words[0] == "suite":  # whole suites are run in commands/suite
        return FEW_NULLS if words == ("suite", "--quick") else ("--dry-run",)
    is_trained = words[0] == "train-head" and "--epochs" not in words
    return TRAINED if is_trained else ()


def run_of(terminal: Terminal, command: str) -> Path:
    return next(
        path
        for path in terminal.runs()
        if RunFolder(path).meta["command"] == command and path.name != STOPPED
    )


def cached_entry(terminal: Terminal) -> str:
    lines = terminal.type("cache", "list", "--format", "csv").out.splitlines()
    return lines[1].split(",")[lines[0].split(",").index("id")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_docs_runs(
    there: Terminal, world: World, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if known_elsewhere(words) is not None:
        pytest.skip(f"run in tests/{known_elsewhere(words)}")
    if " ".join(words).startswith(NEVER):
        pytest.skip("takes too long")
    if words[0] == "cache":  # what others use stays
        shutil.copytree(world.folder / "cache", there.folder / "cache")
        monkeypatch.setenv("SEMSEG_CACHE_DIR", str(there.folder / "cache"))
    done = there.type(*named_there(words, world, there))
    assert done.code == 0, done.err
    assert done.out or done.err


@pytest.mark.parametrize(("command", "file"), ELSEWHERE.items())
def test_what_runs_elsewhere_does(command: str, file: str) -> None:
    text = (Path(__file__).parent / file).read_text("utf-8")
    assert known_elsewhere(command.split()) == file
    word = command.split()[-1].rpartition("/")[2]
    assert f'"{word}"' in text
    assert any(" ".join(words).startswith(command) for words in COMMANDS)
