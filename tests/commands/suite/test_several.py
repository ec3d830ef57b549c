"""`semseg-cli suite` of several autoencoders and layers, end to end."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser, assert_readable
from safetensors.torch import save_file
from terminal import Done, Terminal, drawing, options, working_in
from worlds import KNOWN_D, World, known_sae, make_known_world, split_sae

from semseg_cli.experiment import estimate
from semseg_cli.models import sae as saes
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae import SparseAutoencoder, Threshold
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.rows import parse_rows, read_rows

FEW = ("--peers", "4", "--matched-peers", "3", "--matched-images", "3")
EQUAL_FILES = (
    "class_results.csv", "calibration.csv", "per_image.parquet", "nulls.parquet", "splice.csv",
    "matched_per_image.parquet", "lookup.csv", "stats.safetensors",
)  # fmt: skip
OWN_RUN = "auto-feat norm x-2"
NULL_RUNS = {f"auto-feat {null} norm x-2" for null in ("pca", "random", "shuffled")}


def narrowed() -> SparseAutoencoder:
    """The planted dictionary without its last latents, some of which classes need."""
    sae, n = known_sae(), 9
    parts = sae.W_enc[:, :n].contiguous(), sae.b_enc[:n], sae.W_dec[:n].contiguous(), sae.b_dec
    return SparseAutoencoder(*parts, Threshold(0.01))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_known_world(tmp_path_factory.mktemp("several"))
    folder = made.folder / "saes"
    folder.mkdir()
    saes.save(folder / "whole.pt", known_sae())
    saes.save(folder / "narrow.pt", narrowed())
    saes.save(folder / "yet-another.pt", known_sae())
    (folder / "notes.txt").write_text("no SAE", encoding="utf-8")
    return made


def typed(world: World, *more: str, **changes: str) -> list[str]:
    """A suite of all files of the folder."""
    given = options(world, **{"sae_ckpt": str(world.folder / "saes" / "*"), **changes})
    return ["suite", *given, *FEW, *more]


@pytest.fixture(scope="module")
def ran(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with working_in(tmp_path_factory.mktemp("ran")) as terminal, drawing():
        yield terminal, terminal.type(*typed(world)), world


def runs_of(terminal: Terminal) -> dict[str, list[RunFolder]]:
    """The runs by name and file of their SAE."""
    found: dict[str, list[RunFolder]] = {}
    for path in terminal.runs():
        folder = RunFolder(path)
        found.setdefault(folder.meta["run_name"], []).append(folder)
    return found


def last(terminal: Terminal, name: str = "suite") -> RunFolder:
    return runs_of(terminal)[name][-1]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_one_table_has_every_sae_and_the_null_saes_of_the_layer(ran: Any) -> None:
    terminal, done, _ = ran
    assert done.code == 0, done.err
    rows = read_rows(last(terminal).path / "dictionaries.csv")
    assert {row["dictionary"] for row in rows} == {
        "whole.pt", "narrow.pt", "PCA", "random", "permuted decoder"
    }  # fmt: skip
    by_name = {row["dictionary"]: row for row in rows}
    whole, narrow = by_name["whole.pt"], by_name["narrow.pt"]
    assert rows[0] is whole
    assert (whole["d_sae"], narrow["d_sae"]) == (15, 9)
    assert (whole["n_latents"], narrow["n_latents"], whole["n_scored"]) == (4, 3, 4)
    assert whole["explained_variance"] == pytest.approx(1)
    assert (whole["unchanged"], whole["n_lost"]) == (1, 0)
    assert by_name["permuted decoder"]["n_lost"] == 4
    assert {row["layer"] for row in rows} == {1}
    assert {row["null_sae"] for row in rows} == {None, "pca", "random", "shuffled"}


def test_three_images_rank_nothing(ran: Any) -> None:
    _, done, _ = ran
    assert "Nothing is ranked: no test between any two dictionaries" in flat(done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def test_it_says_what_is_used_where_and_what_is_left_out(ran: Any) -> None:
    _, done, _ = ran
    said = flat(done.err)
    assert "notes.txt is left out: The SAE" in said
    assert "yet-another.pt is the same SAE as whole.pt: it is left out." in said
    assert "narrow.pt: resid-post of layer 1, 9 latents; to run: auto-feat norm whole.pt" in said
    assert "15 latents; null SAEs in its shape; to run: auto-feat norm, auto-feat pca norm" in said
    assert "narrow.pt cannot explain" in flat(done.out)


def test_edits_of_all_are_matched_in_length(ran: Any) -> None:
    terminal, done, _ = ran
    rows = read_rows(last(terminal).path / "dictionaries.csv")
    logs = [folder.path / "log.txt" for name in NULL_RUNS for folder in runs_of(terminal)[name]]
    told = {log for log in logs if "No value was found at which the edit is" in log.read_text()}
    # Equal variances: rounding decides the principal directions, and one may reach no class.
    assert all("auto-feat-pca" in log.parent.name for log in told)
    ratios = [row["edit_ratio"] for row in rows if not (told and row["null_sae"] == "pca")]
    assert max(ratios) - min(ratios) < 0.1 * max(ratios)
    matched = "not matched" if told else "matched"
    assert f"Edits are {matched} in length, on average over classes: 0." in flat(done.out)
    for folder in runs_of(terminal)[OWN_RUN]:
        chosen = [row for row in read_rows(folder.path / "lookup.csv") if row["chosen"]]
        assert all(row["coefficient"] > 0 for row in chosen)


def test_an_sae_s_numbers_are_those_of_its_suite_alone(world: World, tmp_path: Path) -> None:
    files = [str(world.folder / "saes" / name) for name in ("narrow.pt", "whole.pt")]
    more = (*FEW, "--scale", "-2", "--no-plots", "--no-track")
    with working_in(tmp_path) as terminal:
        done = terminal.type("suite", *options(world, sae_ckpt=files[1]), "--sae-ckpt", files[0],
                             *more, "--match", "none")  # fmt: skip
        assert done.code == 0, done.err
        assert "Edits are not matched in length, on average over classes: 0" in flat(done.out)
        (several,) = [
            folder for folder in runs_of(terminal)["auto-feat x-2"]
            if read_settings(folder)["sae_ckpt"] == files[0]
        ]  # fmt: skip
        done = terminal.type("suite", *options(world, sae_ckpt=files[0]), *more)
        assert done.code == 0, done.err
        single = last(terminal, "auto-feat x-2")
        assert single.path != several.path
        for name in EQUAL_FILES:
            assert (single.path / name).read_bytes() == (several.path / name).read_bytes(), name
        assert single.report().extra == several.report().extra
        rows = read_rows(last(terminal).path / "dictionaries.csv")
        assert len(rows) == 4
    (row,) = [row for row in rows if row["dictionary"] == "narrow.pt"]
    assert row["score"] is not None


def read_settings(folder: RunFolder) -> dict[str, Any]:
    import tomllib

    return tomllib.loads((folder.path / "settings.toml").read_text("utf-8"))


def test_runs_have_the_tag_of_the_whole_and_are_tracked(ran: Any) -> None:
    terminal, done, _ = ran
    found = runs_of(terminal)
    assert set(found) == {"suite", "lookup f1", OWN_RUN, *NULL_RUNS}
    tags = {f.meta["tags"]["dictionaries"] for of_name in found.values() for f in of_name}
    assert len(tags) == 1
    assert all(f.meta["uploaded"] for of_name in found.values() for f in of_name)
    (line,) = [line for line in done.err.splitlines() if line.startswith("Compare: ")]
    compared = terminal.type(*shlex.split(line)[2:])
    assert compared.code == 0, compared.err
    assert "not matched in length" not in flat(compared.out)


def test_the_page_has_table_plots_and_a_section_for_each(ran: Any) -> None:
    terminal, _, _ = ran
    folder = last(terminal)
    page = (folder.path / "suite.html").read_text("utf-8")
    for part in ("Dictionaries", "Classes among their nulls: narrow.pt", "whole.pt: For 0 of 4",
                 "Classes under its reconstruction: narrow.pt", "Settings"):  # fmt: skip
        assert part in page
    every = [one.path for of_name in runs_of(terminal).values() for one in of_name]
    n_latents = sum(len(list((path / "latents").glob("*.jpg"))) for path in every)
    assert n_latents > 4
    assert page.count("<img") == 3 + n_latents
    assert "Latents: what they respond to, and what they do: narrow.pt" in page
    assert {path.stem for path in (folder.path / "plots").glob("*.png")} == {
        "score_by_layer", "score_by_l0", "score_by_explained_variance"
    }  # fmt: skip
    whole = json.loads((folder.path / "dictionaries.json").read_text("utf-8"))
    assert len(whole["rows"]) == 5
    assert json.loads((folder.path / "metrics.json").read_text()) == {
        "n_dictionaries": 5, "n_first": 5
    }  # fmt: skip


def test_the_page_is_readable_in_a_browser(ran: Any, browser: Browser) -> None:
    assert_readable(browser, last(ran[0]).path / "suite.html")


def test_a_stopped_suite_goes_on(ran: Any) -> None:
    terminal, _, world = ran
    before = runs_of(terminal)
    before["auto-feat random norm x-2"][0].update(status="KILLED")
    done = terminal.type(*typed(world, "--no-plots", "--format", "csv"))
    assert done.code == 0, done.err
    assert "to run: auto-feat random" in flat(done.err)
    after = runs_of(terminal)
    grown = {name for name in after if len(after[name]) > len(before.get(name, []))}
    assert grown == {"auto-feat random norm x-2", "suite"}
    (first, *_), (again, *_) = before["suite"], after["suite"][::-1]
    rows = [read_rows(folder.path / "dictionaries.csv") for folder in (first, again)]
    kept = [[{k: v for k, v in row.items() if k != "folder"} for row in part] for part in rows]
    assert kept[0] == kept[1]
    assert [row["dictionary"] for row in parse_rows(done.out)] == [
        row["dictionary"] for row in rows[0]
    ]
    plan = terminal.type(*typed(world, "--dry-run"))
    assert flat(plan.out).count("to run: nothing") == 2


@pytest.mark.parametrize(("is_sampled", "how"), [(False, "at most"), (True, "about")])
def test_a_plan_says_how_sure_its_number_of_edits_is(
    is_sampled: bool, how: str, world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "may_sample", lambda *_: is_sampled)
    plan = terminal.type(*typed(world, "--dry-run", "--no-track", "--other-images", "3"))
    assert plan.code == 0, plan.err
    assert re.search(rf"edited images: {how} \d+; estimated time", flat(plan.out))


def test_images_go_through_the_vit_once_for_all_saes_of_a_layer(
    world: World, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    tokens = Residuals._tokens

    def counting(self: Residuals, batch: Any) -> torch.Tensor:
        computed.extend([0] * len(batch.new_rows))
        return tokens(self, batch)

    monkeypatch.setattr(Residuals, "_tokens", counting)
    done = terminal.type(*typed(world, "--no-plots", "--no-track", cache_dir=str(tmp_path / "c")))
    assert done.code == 0, done.err
    assert len(computed) == 4 + 3  # training and validation


def test_layers_are_put_side_by_side_and_statistics_belong_to_theirs(
    world: World, terminal: Terminal, tmp_path: Path
) -> None:
    """The blocks of the known world do nothing: the SAE reads the same at both layers."""
    files = []
    for layer in (1, 2):
        files.append(tmp_path / f"stats{layer}.safetensors")
        save_file({"act_mean": torch.zeros(KNOWN_D)}, files[-1], {"place": f"resid-post {layer}"})
    done = terminal.type(
        *typed(world, "--vit-layer", "2", "--act-mean", str(files[0]), "--act-mean", str(files[1]),
               "--no-track", "--no-plots", "--format", "csv",
               sae_ckpt=str(world.folder / "sae.pt"), act_mean="")
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = parse_rows(done.out)
    assert sorted((row["layer"], row["dictionary"]) for row in rows) == [
        (layer, name) for layer in (1, 2)
        for name in ("PCA", "permuted decoder", "random", "sae.pt")
    ]  # fmt: skip
    scores = {row["score"] for row in rows if row["dictionary"] == "sae.pt"}
    assert len(scores) == 1


def refused(done: Done, sentence: str, code: int = 2) -> None:
    assert done.code == code
    assert sentence in flat(done.err)


def test_mistakes_are_told_in_one_sentence(world: World, terminal: Terminal) -> None:
    nothing = str(world.folder / "none" / "*")
    refused(terminal.type(*typed(world, sae_ckpt=nothing)), "fits no file: check the folder")
    missing = ("--sae-ckpt", str(world.folder / "gone.pt"))
    refused(terminal.type(*typed(world, *missing)), "gone.pt", 1)
    norm = terminal.type(*typed(world, "--match", "norm", "--scale", "0"))
    refused(norm, "scale is 0: with match norm")
    length = terminal.type(*typed(world, "--match", "none", "--length", "0.7"))
    refused(length, "--length is given, but edits are not matched")
    one = terminal.type("suite", *options(world), *FEW, "--match", "none")
    refused(one, "--match and --length are for a suite of several SAEs")
    refused(terminal.type(*typed(world, "--lookup", "x.csv")), "--lookup has the latents of one")
    refused(terminal.type(*typed(world, "--max-group", "3")), "--max-group is given: groups grow")
    refused(
        terminal.type(*typed(world, "--sparsity", str(world.stats))),
        "--sparsity belongs to one SAE",
    )
    stats = str(world.stats)
    refused(
        terminal.type(*typed(world, "--vit-layer", "2", "--act-mean", stats, act_mean="")),
        "does not say its layer, and there are several",
    )
    refused(
        terminal.type(*typed(world, "--act-mean", "0")), "--act-mean has several that may be of"
    )
    assert terminal.runs() == []


def test_a_config_of_several_is_one_sentence_for_a_command_that_takes_one(
    world: World, terminal: Terminal, tmp_path: Path
) -> None:
    config = tmp_path / "two.toml"
    config.write_text(f'sae_ckpt = ["{world.folder}/sae.pt", "{world.folder}/sae.pt"]\n')
    refused(
        terminal.type("auto-feat", "--config", str(config)),
        "--sae-ckpt has several values in the settings file: this command takes one.",
    )


def test_split_classes_are_found_split(tmp_path: Path, terminal: Terminal) -> None:
    """Class 1 is shared by two latents, each half; class 3's latent writes nothing."""
    shared = make_known_world(tmp_path, split_sae())
    saes.save(tmp_path / "plain.pt", known_sae())
    more = ("--sae-ckpt", str(tmp_path / "plain.pt"), "--select", "cause", "--scale", "0")
    done = terminal.type(
        *typed(shared, *more, "--no-track", "--no-plots", sae_ckpt=str(tmp_path / "sae.pt"))
    )
    assert done.code == 0, done.err
    assert "Groups of latents: sae.pt" in done.out
    kinds = []
    for folder in runs_of(terminal)["lookup cause"]:
        rows = read_rows(folder.path / "groups.csv")
        kinds.append({row["class_id"]: row["kind"] for row in rows})
    split = {1: "split", 2: "one", 3: "absent", 4: "one"}
    assert split in kinds
    assert dict.fromkeys((1, 2, 3, 4), "one") in kinds
    use = next(
        folder.path / "groups.csv" for folder, kind in
        zip(runs_of(terminal)["lookup cause"], kinds, strict=True) if kind == split
    )  # fmt: skip
    again = terminal.type("auto-feat", *options(shared), "--lookup", str(use), "--scale", "0",
                          "--no-track", "--no-plots")  # fmt: skip
    assert again.code == 0, again.err
