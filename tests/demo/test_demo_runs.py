"""The demo world end to end: what README promises of it holds, within stated tolerances."""

import json
import re
from pathlib import Path

import pytest
from terminal import Done, Terminal

from semseg_cli.cli import app
from semseg_cli.runs.report import Report

README = Path(__file__).parents[2] / "README.md"
# Another machine sums in another order: a few patches may differ.
TOLERANCE = 0.01

RUNS = {
    "auto-feat --select f1": ["auto-feat", "--run-name", "f1"],
    "auto-feat --select causal": ["auto-feat", "--select", "causal"],
    "rand-vec --match norm": ["rand-vec", "--match", "norm"],
    "rand-feat": ["rand-feat"],
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo-cache")


@pytest.fixture
def demo(terminal: Terminal, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("SEMSEG_CACHE_DIR", str(cache))
    return terminal


def run(demo: Terminal, *args: str) -> tuple[Done, Report]:
    done = demo.type(*args)
    assert done.code == 0, done.err
    text = (demo.runs()[-1] / "report.json").read_text()
    return done, Report.from_dict(json.loads(text))


def test_the_first_screen_says_that_this_is_the_demo_world(demo: Terminal) -> None:
    done, report = run(demo, "auto-feat", "--images", "10")
    assert done.err.startswith("This is the embedded demo world")
    assert "--vit-ckpt" in done.err
    assert report.n_images == 10


@pytest.mark.slow
def test_the_best_f1_latents_are_specific(demo: Terminal) -> None:
    _, report = run(demo, *RUNS["auto-feat --select f1"])
    assert report.mean_target_change >= 0.70
    assert report.mean_other_change <= 0.10
    assert len(report.class_results) == 16


@pytest.mark.slow
def test_the_causal_rule_finds_the_latents_that_drive_the_prediction(demo: Terminal) -> None:
    _, report = run(demo, *RUNS["auto-feat --select causal"])
    assert report.mean_target_change >= 0.95
    assert report.mean_other_change <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize("control", ["rand-vec --match norm", "rand-feat"])
def test_controls_change_little(control: str, demo: Terminal) -> None:
    _, report = run(demo, *RUNS[control])
    assert report.mean_target_change < 0.15


@pytest.mark.slow
def test_the_label_protocol_says_that_pooled_numbers_are_one(demo: Terminal) -> None:
    done, report = run(demo, "auto-feat", "--protocol", "label")
    assert report.mean_target_change == pytest.approx(report.mean_other_change, rel=1e-12)
    assert "one number by construction" in done.out


@pytest.mark.slow
def test_the_exported_world_gives_the_very_same_report(demo: Terminal, tmp_path: Path) -> None:
    done = demo.type("demo", "export", str(tmp_path / "world"))
    assert done.code == 0, done.err
    config = tmp_path / "world" / "demo.toml"
    for name in ("vit/config.json", "sae.pt", "head.pt", "stats.safetensors", "ade20k"):
        assert (config.parent / name).exists()
    _, exported = run(demo, "auto-feat", "--config", str(config), "--images", "30")
    _, preset = run(demo, "auto-feat", "--preset", "demo", "--images", "30")
    assert exported == preset


def readme_output(name: str) -> str:
    """The block below `<!-- output: NAME -->` in README."""
    found = re.search(rf"<!-- output: {name} -->\n```\n(.*?)```", README.read_text(), re.S)
    assert found, name
    return found[1]


def numbers(line: str) -> list[float]:
    return [float(word) for word in line.split() if re.fullmatch(r"-?\d+\.\d{3}", word)]


@pytest.mark.slow
def test_readme_shows_the_real_first_output(demo: Terminal) -> None:
    done, _ = run(demo, "auto-feat")
    shown, real = readme_output("auto-feat").splitlines(), done.out.splitlines()
    assert [re.sub(r"[\d. -]", "", line) for line in shown[:4]] == [
        re.sub(r"[\d. -]", "", line) for line in real[:4]
    ]
    assert numbers(shown[4]) == pytest.approx(numbers(real[4]), abs=TOLERANCE)


@pytest.mark.slow
def test_readme_shows_the_real_comparison(demo: Terminal) -> None:
    commands = re.search(r"<!-- commands: main -->\n```\n(.*?)```", README.read_text(), re.S)
    assert commands
    typed = [line.split("#")[0].split() for line in commands[1].splitlines()]
    done = [demo.type(*words[1:]) for words in typed]
    assert [one.code for one in done] == [0] * len(typed)
    shown = [line for line in readme_output("compare").splitlines() if numbers(line)]
    real = [line for line in done[-1].out.splitlines() if numbers(line)]
    assert len(shown) == len(real) == 3
    for ours, theirs in zip(shown, real, strict=True):
        assert ours.split()[0] == theirs.split()[0]
        assert numbers(ours) == pytest.approx(numbers(theirs), abs=TOLERANCE)


def test_readme_names_every_command() -> None:
    text = README.read_text()
    for command in app.registered_commands:
        assert f"`{command.name}" in text
