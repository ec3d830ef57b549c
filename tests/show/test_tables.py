"""Tables: how numbers and names are written in every form, at 80 columns."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from run_folders import make_report

from semseg_cli.settings.output import FORMATS
from semseg_cli.show.run_tables import (
    class_table,
    extremes_table,
    lookup_table,
    measure_notes,
    summary_table,
)
from semseg_cli.show.tables import Column, Table, cell, interval, plain_number, render

TABLE = Table(
    "Two classes",
    (Column("name", "class", "text", elastic=True), Column("value", "mean\nvalue"),
     Column("n", "n", "count")),
    ({"name": "sea [b t d] | 50%", "value": 0.12349, "n": 3, "id": 1},
     {"name": "a_b", "value": -1e-9, "n": None, "id": 2}),
    notes=("One note.",),
    best=(0, "value"),
)  # fmt: skip


def test_table_is_pinned() -> None:
    assert render(TABLE) == (
        "Two classes\n"
        "                    mean\n"
        "class              value  n\n"
        "───────────────────────────\n"
        "sea [b t d] | 50%  0.123  3\n"
        "a_b                0.000  -\n"
        "One note.\n"
    )


def test_markdown_is_pinned() -> None:
    assert render(TABLE, "markdown") == (
        "**Two classes**\n\n"
        "| class | mean value | n |\n"
        "| :-- | --: | --: |\n"
        "| sea \\[b t d\\] \\| 50% | **0.123** | 3 |\n"
        "| a\\_b | 0.000 | - |\n"
        "\n- One note.\n"
    )


def test_latex_is_pinned() -> None:
    assert render(TABLE, "latex") == (
        "\\begin{table}\n\\centering\n\\begin{tabular}{lrr}\n\\hline\n"
        "class & mean value & n \\\\\n\\hline\n"
        "sea {[}b t d{]} \\textbar{} 50\\% & \\textbf{0.123} & 3 \\\\\n"
        "a\\_b & 0.000 & - \\\\\n\\hline\n"
        "\\end{tabular}\n\\caption{Two classes. One note.}\n\\end{table}\n"
    )


def test_csv_and_json_hold_every_key_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(render(TABLE, "csv"))))
    assert rows[0] == {"name": "sea [b t d] | 50%", "value": "0.12349", "n": "3", "id": "1"}
    whole = json.loads(render(TABLE, "json"))
    assert whole["rows"] == list(TABLE.rows)
    assert whole["notes"] == ["One note."]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.5, "ratio", "0.500"), (-0.0001, "ratio", "0.000"), (-0.25, "ratio", "-0.250"),
        (1e-12, "ratio", "0.000"), (123456.0, "ratio", "123456.000"),
        (1e21, "count", "1" + "0" * 21),
        (None, "ratio", "-"), (float("nan"), "ratio", "-"), ("", "text", "-"),
        (7.0, "count", "7"), (-2.0, "setting", "-2"), (1e-5, "setting", "0.00001"),
        ("two\nlines", "text", "two lines"),
    ],
)  # fmt: skip
def test_cells(value: object, kind: str, text: str) -> None:
    assert cell(value, kind) == text


def test_precision_is_a_choice() -> None:
    assert cell(0.12349, "ratio", precision=1) == "0.1"
    assert cell(0.0541, "p", precision=2) == "0.054"  # not 0.05, which would pass
    assert [cell(p, "p") for p in (0.05, 0.0504, 0.05001)] == ["0.050", "0.0504", "0.05001"]
    assert cell(0.05 + 1e-12, "p") == "0.050"  # which passes, by rounding
    assert "0.12349" in render(TABLE, precision=5)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_exact_and_never_scientific(value: float) -> None:
    text = plain_number(value)
    assert "e" not in text.lower()
    assert float(text) == value


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200))
def test_any_name_keeps_80_columns_and_whole_numbers(name: str) -> None:
    rows = [{"class_name": name, "target_change": 0.25, "other_change": 0.5, "selectivity": -0.25,
             "class_id": 1, "n_orig_patches": 1234567, "n_changed_patches": 100,
             "latent": 24575}]  # fmt: skip
    text = render(class_table(rows))
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    for number in ("24575", "0.250", "0.500", "-0.250", "1234567"):
        assert number in text


@pytest.mark.parametrize("format", FORMATS)
def test_every_form_takes_an_empty_table(format: str) -> None:
    text = render(Table("Nothing", (Column("a", "a"),), ()), format)
    assert text.endswith("\n")


def test_the_best_stands_out_in_colour_only_where_colour_is_wanted() -> None:
    def shown(*, terminal: bool, no_color: bool = False) -> str:
        console = Console(
            file=io.StringIO(), width=80, force_terminal=terminal, no_color=no_color,
            color_system="truecolor" if terminal else "auto",
        )  # fmt: skip
        return render(TABLE, "table", console)

    assert "\x1b[1;32m0.123" in shown(terminal=True)
    assert "\x1b[1m0.123" in shown(terminal=True, no_color=True)
    assert "\x1b" not in shown(terminal=False)


def test_names_are_never_taken_for_markup() -> None:
    table = Table("", (Column("name", "name", "text"),), ({"name": "[red]x[/red] [/]"},))
    assert "[red]x[/red] [/]" in render(table)


def test_summary_is_pinned() -> None:
    reports = {"auto-feat x-2": make_report(), "rand-feat x-2": make_report("rand-feat", changed=0)}
    assert render(summary_table(reports)) == (
        "Results\n"
        "                macro  macro        macro  pooled  pooled    edit\n"
        "run            target  other  selectivity  target   other    norm\n"
        "─────────────────────────────────────────────────────────────────\n"
        "auto-feat x-2   0.700  0.045        0.655   0.750   0.045  12.500\n"
        "                4 img  4 img        4 img   4 img   4 img\n"
        "rand-feat x-2   0.250  0.045        0.205   0.188   0.045  12.500\n"
        "                4 img  4 img        4 img   4 img   4 img\n"
        "Protocol class, 4 images, 2 classes. macro: mean over classes; pooled: over\n"
        "patches.\n"
        "2/3 img: a change in 2 of 3, too few (below 5), uneven or alike for an interval.\n"
    )


def test_summary_shows_lengths_with_what_they_mean_and_pooled_numbers_yield() -> None:
    lengths = {"edit_ratio": 0.46, "off_manifold": 0.98}
    made = replace(make_report(), extra=lengths, protocol="label")
    text = render(summary_table({"auto-feat x-2": made}), console=Console(width=70))
    assert "off manifold: how many of the clean patches" in " ".join(text.split())
    assert "pooled  pooled" not in text
    assert "0.460" in text
    assert "an image lacks is not set there" in " ".join(text.split())
    assert "pooled  pooled" in render(summary_table({"a": made}), console=Console(width=99))


def test_what_lengths_mean_goes_with_their_columns_from_several_runs_too() -> None:
    made = replace(make_report(), extra={"edit_ratio": 0.46, "off_manifold": 0.98})
    table = summary_table({"a": made, "b": make_report("rand-vec")})
    said = {
        width: "off manifold:" in render(table, console=Console(width=width)) for width in (60, 50)
    }
    assert said == {60: True, 50: False}


def test_summary_says_when_target_and_other_are_one_number() -> None:
    report = make_report("rand-vec")
    assert not any("by construction" in note for note in summary_table({"r": report}).notes)
    shared = type(report)(**{**vars(report), "n_patches": 160})
    assert "r: pooled target and other are one number by construction" in summary_table(
        {"r": shared}
    ).notes[-1]  # fmt: skip


def test_a_note_on_columns_goes_with_them() -> None:
    columns = (Column("name", "name", "text"), Column("x", "x"), Column("far", "far", yields=1))
    table = Table("", columns, ({"name": "a", "x": 1.0, "far": 2.0},), ("of far", "of both", "all"),
                  about={"of far": {"far"}, "of both": {"x", "far"}})  # fmt: skip
    wide, narrow = (render(table, console=Console(width=width)) for width in (80, 12))
    assert [note in wide for note in table.notes] == [True, True, True]
    assert [note in narrow for note in table.notes] == [False, True, True]
    alone = render(replace(table, columns=(), rows=()))
    assert alone.split("\n")[:3] == list(table.notes)


def test_extremes_rank_classes_with_enough_patches() -> None:
    rows = [
        {"class_name": f"c{i}", "class_id": i, "target_change": i / 20, "other_change": 0.0,
         "selectivity": i / 20, "n_orig_patches": 10 * i, "n_changed_patches": 1}
        for i in range(1, 16)
    ]  # fmt: skip
    table = extremes_table(rows, min_patches=30, n=2)
    assert [row["class_name"] for row in table.rows] == ["c15", "c14", "c4", "c3"]
    assert [row["place"] for row in table.rows] == [1, 2, 12, 13]
    assert table.notes == ("Not ranked: 2 with fewer than 30 predicted patches.",)
    table = extremes_table([*rows, {**rows[0], "n_orig_patches": 0}], min_patches=30, n=2)
    assert table.notes == (
        "Not ranked: 1 never predicted, 2 with fewer than 30 predicted patches.",
    )


def _lookup_row(rank: int, latent: int, **more: float) -> dict[str, object]:
    return {"class_id": 1, "class_name": "sand", "rank": rank, "latent": latent,
            "chosen": int(rank == 1), "threshold": 1.65, "threshold_share": 0.3, "f1": 0.9,
            "precision": 0.95, "recall": 0.85, "iou": 0.8, "n_patches": 100, "frequency": 0.001,
            "maximum": 5.5, **more}  # fmt: skip


def test_lookup_shows_the_chosen_latent_or_all_candidates() -> None:
    rows = [_lookup_row(1, 24575), _lookup_row(2, 7)]
    assert render(lookup_table(rows)) == (
        "Latents by class\n"
        "class  latent  above     F1  prec.  recall  patches\n"
        "───────────────────────────────────────────────────\n"
        "sand    24575    0.3  0.900  0.950   0.850      100\n"
    )
    assert [row["latent"] for row in lookup_table(rows, candidates=True).rows] == [24575, 7]


def test_lookup_shows_the_effect_where_it_was_measured() -> None:
    effect = {"target_change": 0.9, "other_change": 0.2, "selectivity": 0.7}
    keys = [column.key for column in lookup_table([_lookup_row(1, 3, **effect)]).columns]
    assert keys[-3:] == ["target_change", "other_change", "selectivity"]
    assert "precision" not in keys


def test_lookup_says_which_classes_have_no_latent() -> None:
    rows = [_lookup_row(1, 7), {**_lookup_row(1, -1), "class_name": "pole"}]
    table = lookup_table(rows)
    assert "pole        -    0.3" in render(table)
    assert table.notes[0] == "1 without a latent (pole)."
    asked = lookup_table(rows[:1], asked=["sand", "pole", "sky"])
    assert asked.notes[0] == "2 without a latent (pole, sky)."


ESTIMATES = Table(
    "Estimates",
    (Column("name", "run", "text", elastic=True), Column("a", "a", "estimate"),
     Column("d", "vs\nb", "difference"), Column("p", "p", "p")),
    ({"name": "one run", "a": 0.957, "a_lo": 0.93, "a_hi": 1.0, "a_mark": "(*)",
      "d": 0.5, "d_lo": -0.02, "d_hi": 0.6, "p": 0.0004},
     {"name": "b", "a": 0.1, "d": -0.001, "d_lo": None, "d_hi": 0.1, "p": 0.25}),
    strong=frozenset({(0, "a"), (1, "d")}),
)  # fmt: skip


def test_intervals_go_below_their_estimates() -> None:
    assert render(ESTIMATES) == (
        "Estimates\n"
        "                                vs\n"
        "run                  a           b       p\n"
        "──────────────────────────────────────────\n"
        "one run       0.957(*)      +0.500  <0.001\n"
        "            [.93,1.00]  [-.02,.60]\n"
        "b                0.100      -0.001   0.250\n"
    )


def test_intervals_follow_their_estimates_in_markdown_and_latex() -> None:
    assert (
        "| one run | **0.957**(\\*) \\[.93,1.00\\] | +0.500 \\[-.02,.60\\] | \\<0.001 |\n"
        "| b | 0.100 | **-0.001** | 0.250 |\n"
    ) in render(ESTIMATES, "markdown")
    assert (
        "one run & \\textbf{0.957}(*) {[}.93,1.00{]} & $+0.500$ {[}$-$.02,.60{]} & "
        "\\textless{}0.001 \\\\\nb & 0.100 & \\textbf{$-0.001$} & 0.250 \\\\\n"
    ) in render(ESTIMATES, "latex")


def test_only_the_value_of_a_cell_stands_out() -> None:
    console = Console(
        file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor"
    )  # fmt: skip
    text = render(ESTIMATES, "table", console)
    assert "0.957" in text.split("\x1b[1;32m")[1]
    assert "[.93,1.00]" not in text.split("\x1b[1;32m")[1].split("\x1b[0m")[0]


def test_columns_that_do_not_fit_go_on_below() -> None:
    columns = [Column("name", "name", "text", elastic=True)]
    columns += [Column(f"c{i}", f"column_{i}", "text") for i in range(12)]
    row = {"name": "a name", **{f"c{i}": f"value {i}" for i in range(12)}}
    text = render(Table("Wide", tuple(columns), (row,)))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("a name") == 2
    assert all(f"value {i}" in text for i in range(12))


@given(st.integers(1, 30), st.integers(10, 120))
def test_no_column_is_lost_at_any_width(n_columns: int, width: int) -> None:
    columns = [Column("name", "name", "text", elastic=True)]
    columns += [Column(f"c{i}", f"c{i}", "count") for i in range(n_columns)]
    row = {"name": "a", **{f"c{i}": 100 + i for i in range(n_columns)}}
    console = Console(width=width, color_system=None)
    words = render(Table("", tuple(columns), (row,)), "table", console).split()
    assert all(str(100 + i) in words for i in range(n_columns))


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(0.25, "difference", "+0.250"), (0.0, "difference", "0.000"), (-0.2, "difference", "-0.200"),
     (0.0009, "p", "<0.001"), (0.001, "p", "0.001"), (1.0, "p", "1.000")],
)  # fmt: skip
def test_cells_of_differences_and_p_values(value: float, kind: str, text: str) -> None:
    assert cell(value, kind) == text


@pytest.mark.parametrize(
    ("more", "below"),
    [
        ({"a_lo": 0.743, "a_hi": 0.981}, "[.74,.99]"),  # outward
        ({"a": 1.0, "a_lo": 0.832, "a_hi": 1.0}, ">=.83"),
        ({"a": 0.0, "a_lo": 0.0, "a_hi": 0.17}, "<=.17"),
        ({"a_lo": None, "a_n_images": 3, "a_n_touched": 2}, "2/3 img"),
        ({"a_lo": None, "a_n_images": 3}, "3 img"),
        ({"a_lo": None, "a_n_images": 3, "unit": "groups"}, "3 groups"),
        ({"a": None, "a_lo": None, "a_n_images": 0}, ""),
    ],
)
def test_below_an_estimate_stands_its_interval_or_how_thin_it_is(
    more: dict[str, object], below: str
) -> None:
    row = {"name": "x", "a": 0.9, **more}
    assert interval(row, Column("a", "a", "estimate")) == below


def test_what_a_run_measures_beside_changes_is_said_with_its_interval() -> None:
    assert measure_notes(make_report()) == []
    extra = {"necessity": 0.25, "necessity_lo": 0.2, "necessity_hi": 0.3}
    (note,) = measure_notes(replace(make_report(), extra=extra))
    assert note.startswith("necessity: 0.250 [0.200, 0.300], pooled share of the classes' patches")
    (note,) = measure_notes(replace(make_report(), extra={"sufficiency": 0.5}))
    assert note.startswith("sufficiency: 0.500, pooled share of all other patches")


def test_csv_for_a_screen_holds_no_formulas_and_tables_no_commands() -> None:
    names = ("=1+1", "-2", "@SUM(1)", "sea", "a=b", "\x1b[2Ksky")
    table = Table("\x1b[2K", TABLE.columns, tuple({"name": name, "value": -1.5} for name in names))
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["name"] for row in rows] == ["'=1+1", "'-2", "'@SUM(1)", "sea", "a=b", names[-1]]
    assert {row["value"] for row in rows} == {"-1.5"}
    for format in ("table", "markdown", "latex"):
        assert "\x1b" not in render(replace(table, title=""), format)


def test_columns_yield_where_the_terminal_is_too_narrow() -> None:
    columns = (
        Column("name", "run", "text"),
        Column("first", "first" * 3, yields=1),
        Column("kept", "kept" * 3),
        Column("second", "second" * 3, yields=2),
    )
    row = {"name": "auto-feat", "first": 0.5, "kept": 0.25, "second": 0.125}
    table = Table("Runs", columns, (row,))

    def shown(width: int) -> list[str]:
        text = render(table, console=Console(width=width, color_system=None))
        return [key for key in ("first", "kept", "second") if key * 3 in text]

    assert shown(70) == ["first", "kept", "second"]
    assert shown(45) == ["first", "kept"]
    assert shown(30) == ["kept"]
    assert "second" * 3 in render(table, "markdown")


def test_tables_of_several_scales_say_which_in_every_form() -> None:
    reports = {f"mine x{s}": make_report(scale=float(s)) for s in (-1, -2)}
    both = summary_table(reports)
    rows = [
        {"scale": float(s), **r.to_row()} for s in (-1, -2) for r in make_report().class_results
    ]
    for table in (both, class_table(rows)):
        assert [column.key for column in table.columns][1] == "scale"
        assert {row["scale"] for row in table.rows} == {-1.0, -2.0}
        for form in FORMATS:
            assert "scale" in render(table, form)
    assert "scale" not in [c.key for c in summary_table({"mine": make_report()}).columns]
    assert "scale" not in [c.key for c in class_table(rows[:2]).columns]


def test_the_chosen_one_of_the_candidates_is_marked() -> None:
    rows = [
        {"class_name": "sky", "rank": rank, "latent": latent, "chosen": int(rank == 2), "f1": 0.5}
        for rank, latent in ((1, 7), (2, 9))
    ]
    table = lookup_table(rows, candidates=True)
    lines = render(table).splitlines()
    assert [("*" in line, "9" in line) for line in lines[3:5]] == [(False, False), (True, True)]
    assert "*: the latent that is chosen." in table.notes
    assert "| 9 | \\* |" in render(table, "markdown") or "| 9 | * |" in render(table, "markdown")
    alone = lookup_table(rows, candidates=False)
    assert "chosen" not in [column.key for column in alone.columns]
