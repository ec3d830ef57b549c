"""Runs of different SAEs, layers and null SAEs: paired, named, and told apart from other doses."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import write_draws
from scipy import stats
from test_uncertainty import AUTO, CONTROL, IMAGES, compared, counts_of, in_order, made

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.baselines import controls
from semseg_cli.commands.compare.command import compare
from semseg_cli.commands.compare.dictionaries import (
    OF_DIRECTIONS,
    dictionaries_apart,
    dictionary_names,
)
from semseg_cli.commands.compare.like_with_like import lengths_apart, unlike, unpaired
from semseg_cli.commands.compare.run_kinds import kind
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.inference import control_differences, holm, macro_differences
from semseg_cli.settings.compare import Compare
from semseg_cli.show.tables import render
from semseg_cli.tracking.tracked_run import TrackedRun, from_folder

FEW = 10  # images, of which all flips can be tried


def of_sae(
    root: Path,
    counts: np.ndarray,
    sae: str,
    command: str = "auto-feat",
    *,
    layer: int = 11,
    more: str = "",
    **report: Any,
) -> RunFolder:
    """A run folder of an SAE that lies in a file of its name."""
    n_images, n_classes = counts.shape[:2]
    folder = made(root, command, counts, IMAGES[:n_images], range(1, n_classes + 1), **report)
    folder.update(digests={"sae": f"digest of {sae}", "vit": "717", "head": "4ead"})
    path = folder.path / "settings.toml"
    told = path.read_text().replace("vit_layer = 11", f"vit_layer = {layer}")
    path.write_text(f'{told}sae_ckpt = "/data/{sae}.pt"\n{more}')
    return folder


def run_of(root: Path, sae: str = "a", command: str = "auto-feat", **more: Any) -> TrackedRun:
    return from_folder(of_sae(root, AUTO, sae, command, **more))


# --- the slow, obvious evaluation ----------------------------------------------------------------

Counts = list[int]


def slow_rate(part: Counts, whole: Counts) -> dict[str, Any]:
    """A share with its scores, Wilson's ends at its effective size, and degrees of freedom."""
    total, n = sum(whole), sum(m > 0 for m in whole)
    rate = sum(part) / total
    shares = [m / total for m in whole]
    squares = sum(w * w for w in shares)
    scores = [
        (a - rate * m) / total / math.sqrt(1 - 2 * w + squares)
        for a, m, w in zip(part, whole, shares, strict=True)
    ]
    variance = sum(z**2 for z in scores)
    kish = 1 / squares
    if n < 3 or variance == 0:
        size = kish
    else:
        carriers = variance**2 / sum(z**4 for z in scores)
        pull = (10 / (carriers + 10)) ** 2
        seen = max(variance / (rate * (1 - rate)), 1 / total)
        size = 1 / ((1 - pull) * seen + pull / kish)
    z = stats.norm.ppf(0.975)
    middle = rate + z * z / (2 * size)
    half = z * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    low, high = ((middle + sign * half) / (1 + z * z / size) for sign in (-1, 1))
    return {"rate": rate, "down": rate - low, "up": high - rate, "scores": scores, "n": n,
            "df": max(kish - 1, 1)}  # fmt: skip


def slow_selectivity_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """The macro difference with both ends: MOVER's and the jackknife's distances, root mean square.

    Every class has patches in at least 3 images.
    """
    n_classes = one.shape[1]
    terms = [
        (sign * side / n_classes, slow_rate(run[:, c, k + 1].tolist(), run[:, c, k].tolist()))
        for run, sign in ((one, 1), (other, -1))
        for k, side in ((0, 1), (2, -1))
        for c in range(n_classes)
    ]
    value = sum(coef * rate["rate"] for coef, rate in terms)
    n_images = max(rate["n"] for _, rate in terms)
    summed = [sum(coef * rate["scores"][i] for coef, rate in terms) for i in range(len(one))]
    jackknife = stats.t.ppf(0.975, n_images - 1) * math.sqrt(sum(z * z for z in summed))
    parts = [(coef * (rate["down"] + rate["up"])) ** 2 for coef, rate in terms]
    df = sum(parts) ** 2 / sum(p**2 / rate["df"] for p, (_, rate) in zip(parts, terms, strict=True))
    t = stats.t.ppf(0.975, max(min(df, n_images - 1), 1)) / stats.norm.ppf(0.975)

    def mover(is_below: bool) -> float:
        sides = [coef * rate["down" if (coef > 0) == is_below else "up"] for coef, rate in terms]
        lengths = [math.sqrt(sum(z * z for z in rate["scores"])) for _, rate in terms]
        total = 0.0
        for i, j in itertools.product(range(len(terms)), repeat=2):
            both = zip(terms[i][1]["scores"], terms[j][1]["scores"], strict=True)
            rho = sum(a * b for a, b in both) / (lengths[i] * lengths[j])
            total += rho * sides[i] * sides[j]
        return math.sqrt(total)

    below, above = (math.sqrt(((t * mover(b)) ** 2 + jackknife**2) / 2) for b in (True, False))
    return value, value - below, value + above


def slow_p(one: np.ndarray, other: np.ndarray) -> float:
    """The share of all ways to swap the runs image by image that set them as far apart."""

    def selectivity(run: np.ndarray) -> float:
        sums = run.sum(axis=0)
        return float(np.mean(sums[:, 1] / sums[:, 0] - sums[:, 3] / sums[:, 2]))

    seen = abs(selectivity(one) - selectivity(other))
    n_extreme = 0
    for swapped in itertools.product((False, True), repeat=len(one)):
        is_swapped = np.array(swapped)[:, None, None]
        sides = np.where(is_swapped, other, one), np.where(is_swapped, one, other)
        n_extreme += abs(selectivity(sides[0]) - selectivity(sides[1])) >= seen - 1e-9
    return n_extreme / 2 ** len(one)


@pytest.mark.parametrize("way", ["two named", "baseline"])
def test_the_paired_difference_of_two_saes_is_the_slow_one(tmp_path: Path, way: str) -> None:
    one, other = counts_of(2, 0.5)[:FEW], counts_of(3, 0.4)[:FEW]
    folders = of_sae(tmp_path, one, "a"), of_sae(tmp_path, other, "b")
    value, lo, hi = slow_selectivity_difference(one, other)
    p = slow_p(one, other)
    if way == "baseline":
        row = compared(*folders, baseline=str(folders[1].path)).rows[0]
        found = [row[f"macro_selectivity_{key}"] for key in ("difference", "difference_lo",
                 "difference_hi", "p")]  # fmt: skip
    else:
        table = compare(Compare(), [str(folder.path) for folder in folders])
        row = next(row for row in table.rows if row["key"] == "macro_selectivity")
        found = [row[key] for key in ("difference", "difference_lo", "difference_hi", "p")]
    assert found[:3] == pytest.approx([value, lo, hi])
    assert found[3] == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 9999) + 1e-3)
    assert 0.001 < p < 0.5


# --- what is paired, and what is said ------------------------------------------------------------


def test_saes_layers_and_sites_are_paired_and_the_caption_says_between_what(tmp_path: Path) -> None:
    base = of_sae(tmp_path, CONTROL, "a")
    for sae, layer, more, between in (
        ("b", 11, "", "SAE"),
        ("a", 9, "", "layer"),
        ("b", 9, "", "SAE, layer"),
        ("a", 11, 'control = "pca"\n', "SAE"),
    ):
        other = of_sae(tmp_path, AUTO, sae, layer=layer, more=more)
        table = compared(other, base, baseline=str(base.path))
        row = table.rows[0]
        assert row["between"] == between
        want = macro_differences(in_order(AUTO), in_order(CONTROL))["selectivity"]
        assert row["macro_selectivity_difference"] == want.interval.value
        assert row["macro_selectivity_p"] == want.test.p
        notes = " ".join(table.notes)
        assert f"another {between} than the baseline's" in notes
        assert "Not alike" not in notes
        assert any(note.startswith("SAEs: ") for note in table.notes)


def test_the_caption_names_each_run_s_dictionary(tmp_path: Path) -> None:
    base = of_sae(tmp_path, CONTROL, "a")
    table = compared(of_sae(tmp_path, AUTO, "b", layer=9), base, baseline=str(base.path))
    names = [row["run"] for row in table.rows]
    assert f"SAEs: b.pt, layer 9: {names[0]}; a.pt, layer 11: {names[1]}." in table.notes
    assert [row["dictionary"] for row in table.rows] == ["b.pt, layer 9", "a.pt, layer 11"]
    assert max(map(len, render(table).splitlines())) <= 80


def test_files_of_one_name_are_told_apart_by_their_folders_or_digests(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, name) for name in ("x/sae", "y/sae")]
    assert list(dictionary_names(runs).values()) == ["x/sae.pt", "y/sae.pt"]
    changed = replace(runs[0], run_id="2", tags={**runs[0].tags, "semseg.digest.sae": "123456789"})
    assert list(dictionary_names([runs[0], changed]).values()) == ["sae.pt digest o",
                                                                  "sae.pt 12345678"]  # fmt: skip
    assert dictionary_names([runs[0], replace(runs[0], run_id="3")]) == {}


def test_a_direction_is_of_no_sae_but_of_its_place(tmp_path: Path) -> None:
    assert {"rand-vec", "mean-diff", "head-direction"} == OF_DIRECTIONS
    for command in ("rand-vec", "mean-diff"):
        direction = run_of(tmp_path, "a", command)
        assert dictionaries_apart(run_of(tmp_path, "b"), direction) == []
        assert dictionaries_apart(run_of(tmp_path, "b", layer=9), direction) == ["layer"]
        table = compared(
            of_sae(tmp_path, AUTO, "b"), of_sae(tmp_path, CONTROL, "a", command), baseline=command
        )
        assert table.rows[0]["macro_selectivity_p"] is not None
        assert "between" not in table.rows[0]


@pytest.mark.parametrize("tag", ["digest.evaluation", "digest.vit", "digest.head", "protocol"])
def test_saes_on_unlike_runs_are_not_paired_and_the_reason_is_said(
    tmp_path: Path, tag: str
) -> None:
    one, other = run_of(tmp_path, "a"), run_of(tmp_path, "b")
    assert unpaired(one, other, Artifacts()) == ""
    moved = replace(one, tags={**one.tags, f"semseg.{tag}": "another"})
    what = {"digest.evaluation": "other images", "protocol": "another protocol"}
    expected = what.get(tag, {"digest.vit": "another ViT", "digest.head": "another head"}.get(tag))
    assert unpaired(moved, other, Artifacts()) == expected


def test_another_dictionary_s_length_is_its_own_but_said(tmp_path: Path) -> None:
    """Two SAEs are tested at unlike lengths; a control of another length gets no p."""
    base = of_sae(tmp_path, CONTROL, "a", edit_norm=8.0)
    table = compared(of_sae(tmp_path, AUTO, "b", edit_norm=3.0), base, baseline=str(base.path))
    assert table.rows[0]["macro_selectivity_p"] is not None
    assert table.rows[0]["unmatched"] == "not matched in length (3.000 vs 8.000)"
    name = table.rows[0]["run"]
    assert (
        f"Another length is another dose: {name} not matched in length (3.000 vs 8.000). "
        "auto-feat --match norm makes edits of one length."
    ) in table.notes
    matched = compared(of_sae(tmp_path, AUTO, "b", edit_norm=7.9), base, baseline=str(base.path))
    assert "unmatched" not in matched.rows[0]
    control = of_sae(tmp_path, CONTROL, "a", "rand-vec", edit_norm=8.0)
    untested = compared(of_sae(tmp_path, AUTO, "b", edit_norm=3.0), control, baseline="rand-vec")
    assert untested.rows[0]["macro_selectivity_p"] is None
    assert ("No p for auto-feat x-2: not matched in length (3.000 vs 8.000).") in untested.notes


def test_lengths_at_two_places_are_taken_by_their_residuals(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path, "a", layer=layer, edit_norm=norm) for layer, norm in ((9, 3.0), (11, 9.0))
    ]
    alike, apart = (
        [
            replace(run, metrics={**run.metrics, "edit_ratio": r})
            for run, r in zip(runs, ratios, strict=True)
        ]
        for ratios in ((1.0, 1.05), (1.0, 2.0))
    )
    assert lengths_apart(alike[0], alike[1], (1, 2, 3), Artifacts()) == ""
    found = lengths_apart(apart[0], apart[1], (1, 2, 3), Artifacts())
    assert found == "not matched in length by the residual's (1.000 vs 2.000)"


def test_a_control_of_another_sae_holds_the_luck_of_its_draws(tmp_path: Path) -> None:
    draws = np.zeros((6, 3, 4), dtype=np.int64)
    draws[..., 0] = draws[..., 2] = 1000
    draws[..., 1] = 10 * np.arange(6)[:, None] * np.array([1, 2, 3])
    control = of_sae(tmp_path, 6 * CONTROL, "a", "rand-feat")
    report = control.report()
    control.write_json("report.json", {**report.to_dict(), "n_draws": 6})
    write_draws(control, draws, (1, 2, 3))
    row = compared(of_sae(tmp_path, AUTO, "b"), control).rows[0]
    want = control_differences(in_order(AUTO), 6 * in_order(CONTROL), draws)["selectivity"]
    assert row["macro_selectivity_difference_lo"] == want.interval.lo
    assert row["macro_selectivity_p"] == want.test.p


def test_each_run_is_compared_with_the_control_of_its_own_sae(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path, sae, command, edit_norm=norm)
        for sae, norm in (("a", 3.0), ("b", 8.0))
        for command in ("auto-feat", "rand-feat")
    ]
    label, found = controls(runs)
    assert label == "rand-feat"
    assert [found[run.run_id] for run in runs] == [runs[1], runs[1], runs[3], runs[3]]
    assert not any(unlike(run, found[run.run_id]) for run in runs)


def test_saes_layers_and_images_are_kinds_of_their_own(tmp_path: Path) -> None:
    base = run_of(tmp_path, "a")
    assert kind(base) == kind(run_of(tmp_path, "a"))
    assert kind(base) != kind(run_of(tmp_path, "b"))
    assert kind(base) != kind(run_of(tmp_path, "a", layer=9))
    other = replace(base, tags={**base.tags, "semseg.digest.evaluation": "other"})
    assert kind(base) != kind(other)


# --- outcomes ------------------------------------------------------------------------------------


def with_outcomes(folder: RunFolder, rate: float) -> RunFolder:
    """The folder with damage and margins in its counts by image and its report."""
    path = folder.path / "per_image.parquet"
    columns = pq.read_table(path).to_pydict()
    draw = np.random.default_rng(int(rate * 100))
    others = np.array(columns["n_other_patches"])
    columns["n_damaged"] = draw.binomial(others, rate).tolist()
    columns["n_repaired"] = [0] * len(others)
    drops = draw.normal(rate, 0.2, len(others))
    columns["margin_drop_sum"] = (drops * np.array(columns["n_orig_patches"])).tolist()
    pq.write_table(pa.table(columns), path)
    report = folder.report()
    damage = sum(columns["n_damaged"]) / sum(columns["n_other_patches"])
    extra = {"damage": damage, "margin_drop": rate}
    folder.write_json("report.json", replace(report, extra=extra).to_dict())
    return folder


def test_outcomes_of_two_runs_have_p_corrected_over_the_outcomes(tmp_path: Path) -> None:
    folders = [
        with_outcomes(of_sae(tmp_path, counts, sae), rate)
        for counts, sae, rate in ((AUTO, "a", 0.3), (CONTROL, "b", 0.25))
    ]
    table = compare(Compare(), [str(folder.path) for folder in folders])
    rows = {row["key"]: row for row in table.rows}
    found = rows["damage"]
    assert found["difference"] == pytest.approx(found["one"] - found["two"])
    assert found["difference_lo"] < found["difference"] < found["difference_hi"]
    outcomes = [rows["damage"], rows["margin_drop"]]
    assert [row["p_adjusted"] for row in outcomes] == holm([row["p"] for row in outcomes])
    notes = " ".join(table.notes)
    assert "Outcomes, p: 9,999 random swaps of both runs by image; Holm over" in notes
    assert "Holm over 2 outcomes" in notes
    assert max(map(len, render(table).splitlines())) <= 80


def test_outcomes_of_a_drawn_control_have_no_p_and_say_why(tmp_path: Path) -> None:
    many, control = (np.concatenate([one] * 4, axis=1) for one in (AUTO, CONTROL))
    folders = [
        with_outcomes(of_sae(tmp_path, many, "a"), 0.3),
        with_outcomes(of_sae(tmp_path, control, "a", "rand-feat"), 0.2),
    ]
    table = compare(Compare(), [str(folder.path) for folder in folders])
    (row,) = [row for row in table.rows if row["key"] == "damage"]
    assert row.get("p_adjusted") is None
    (told,) = [note for note in table.notes if "not kept draw by draw" in note]
    assert told.startswith("No p for damage, margin drop: outcomes are not kept")
    assert any(row.get("p_adjusted") is not None for row in table.rows)  # of the same run
    assert not any("No p for auto-feat" in note for note in table.notes)


def test_what_keeps_two_runs_from_a_p_is_said_once(tmp_path: Path) -> None:
    folders = [
        with_outcomes(of_sae(tmp_path, counts, "a", method, edit_norm=norm), 0.3)
        for counts, method, norm in ((AUTO, "auto-feat", 3.0), (CONTROL, "rand-vec", 8.0))
    ]
    table = compare(Compare(), [str(folder.path) for folder in folders])
    assert all(row.get("p_adjusted") is None for row in table.rows)
    told = [note for note in table.notes if note.startswith("No p for")]
    assert [note.split(":")[0].split(" (")[0] for note in told] == [
        "No p for auto-feat x-2", "No p for what is no sum over images"
    ]  # fmt: skip


def test_long_settings_are_shown_by_their_ends_and_kept_whole(tmp_path: Path) -> None:
    folders = [of_sae(tmp_path, AUTO, f"a/long/way/to/the/sae_{x}") for x in "ab"]
    table = compare(Compare(), [str(folder.path) for folder in folders])
    (row,) = [row for row in table.rows if row["key"] == "sae_ckpt"]
    assert row["one_whole"] == "/data/a/long/way/to/the/sae_a.pt"
    assert row["one"].startswith("...")
    assert row["one"].endswith("sae_a.pt")
    assert len(row["one"]) <= 20
