"""Groups of latents: planted classes that one latent holds, that two share, that none has."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from terminal import Terminal, options
from test_cli import assert_done, report_of
from worlds import PLANTED, TWIN, World, make_known_world, split_sae

from semseg_cli.engine.causal_groups import Group, kind_of
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.latent_groups import latent_groups, occurring
from semseg_cli.settings.latent_choice import Choose


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Class 1 is shared by two latents, each half; class 3's latent writes nothing."""
    return make_known_world(tmp_path_factory.mktemp("shared"), split_sae())


def test_a_class_that_two_latents_share_is_split(shared_world: World) -> None:
    session = shared_world.session()
    choice = Choose(max_freq=1.0, select="cause", scale=(0.0,))
    (rows,) = latent_groups(session, choose_latents(session, choice), 8, 200).values()
    groups = {c: [row for row in rows if row["class_id"] == c] for c in (1, 2, 3, 4)}
    assert {c: own[0]["kind"] for c, own in groups.items()} == {
        1: "split", 2: "one", 3: "absent", 4: "one",
    }  # fmt: skip
    assert {row["latent"] for row in groups[1]} == {PLANTED[1], TWIN}
    assert [row["target_choosing"] for row in groups[1]] == [0.0, 1.0]
    assert [(row["target_change"], row["other_change"]) for row in groups[1]] == [(1.0, 0.0)] * 2
    assert [row["latent"] for row in groups[2]] == [PLANTED[2]]
    assert [row["chosen"] for row in groups[3]] == [0]
    assert groups[3][0]["target_change"] == 0.0


def test_groups_are_no_larger_than_asked(shared_world: World) -> None:
    session = shared_world.session(classes=("wall",))
    choice = Choose(max_freq=1.0, select="cause", scale=(0.0,))
    (rows,) = latent_groups(session, choose_latents(session, choice), 1, 200).values()
    assert [(row["kind"], row["n_best"]) for row in rows] == [("absent", 1)]


def test_the_command_writes_groups_that_lookup_takes(
    shared_world: World, terminal: Terminal
) -> None:
    asked = {"select": "cause", "scale": "0", "min_patches": ""}
    done = terminal.type("lookup", *options(shared_world, **asked), "--max-group", "8")
    assert_done(done)
    assert "Groups of latents" in done.out
    (folder,) = terminal.runs()
    table = pd.read_csv(folder / "groups.csv")
    assert table[table["class_id"] == 1]["kind"].tolist() == ["split"] * 2
    reused = options(shared_world, lookup=str(folder / "groups.csv"), scale="0", max_freq="")
    assert_done(terminal.type("auto-feat", *reused))
    used = terminal.runs()[-1]
    found = {r.class_id: r.target_change for r in report_of(used).class_results}
    assert found == {1: 1.0, 2: 1.0, 4: 1.0}
    assert json.loads((used / "run.json").read_text())["status"] == "FINISHED"
    assert (used / "lookup.csv").read_bytes() == Path(folder / "groups.csv").read_bytes()


def test_groups_need_a_rule_that_tries_edits(shared_world: World, terminal: Terminal) -> None:
    done = terminal.type("lookup", *options(shared_world, min_patches=""), "--max-group", "2")
    assert done.code == 2
    assert "groups grow by" in done.err


def test_labels_occur_where_choosing_finds_them(shared_world: World) -> None:
    session = shared_world.session()
    found = occurring(session, session.lookup_dataset)
    assert torch.equal(found[0].nonzero().flatten(), torch.tensor([1, 2, 3, 4]))


def test_the_smallest_group_reaches_nine_tenths() -> None:
    whole = Group(1, (5, 2, 9), (0.5, 0.91, 1.0), (0.0, 0.1, 0.1))
    assert whole.smallest == (5, 2)
    assert Group(1, (5,), (0.0,), (0.0,)).smallest == (5,)
    assert whole.effect == 0.9


@pytest.mark.parametrize(
    ("n_latents", "n_patches", "selectivity", "kind"),
    [(1, 9, 0.5, "one"), (3, 9, 0.9, "split"), (1, 9, 0.49, "absent"), (1, 0, 0.0, "not told")],
)
def test_kinds(n_latents: int, n_patches: int, selectivity: float, kind: str) -> None:
    assert kind_of(n_latents, n_patches, selectivity) == kind
