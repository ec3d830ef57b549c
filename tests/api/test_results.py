"""What comes back: frames, pictures, tables, comparisons."""

import pytest
from held import held
from matplotlib.figure import Figure
from worlds import World

import semseg_cli
from semseg_cli import Result
from semseg_cli.commands.compare.command import compare
from semseg_cli.errors import UsageError
from semseg_cli.settings.compare import Compare
from semseg_cli.show.tables import Column, Table, render


@pytest.fixture(scope="module")
def result(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("api")
    methods = ["auto-feat", "rand-feat", "mean-diff"]
    return semseg_cli.run(methods, dump_to=folder, no_plots=True, **held(tiny_world))


def test_frames_have_one_row_per_class_and_per_run(result: Result) -> None:
    classes, runs = result.to_frame(), result.to_frame("run")
    n_classes = len(result["auto-feat"].report.class_results)
    assert len(classes) == sum(len(run.report.class_results) for run in result) > n_classes
    assert list(dict.fromkeys(classes["run"])) == list(runs["run"]) == list(result.runs)
    row = runs.set_index("run").loc["auto-feat x-2"]
    report = result["auto-feat x-2"].report
    assert row["macro_selectivity"] == report.macro_selectivity
    own = result["auto-feat"].to_frame()
    assert list(own["target_change"]) == [one.target_change for one in report.class_results]
    assert {"target_change_lo", "target_change_hi", "latent"} <= set(own.columns)
    with pytest.raises(UsageError, match="per is 'patch'"):
        result.to_frame("patch")  # type: ignore[arg-type]


def test_pictures_show_themselves(result: Result, tiny_world: World) -> None:
    curve = semseg_cli.run("rand-vec", scale=[5, 10], **held(tiny_world))
    pictures = [result.plot(), result["mean-diff"].plot(), curve.plot()]
    for picture in pictures:
        assert isinstance(picture, Figure)
        assert picture._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    titles = [picture.get_suptitle() for picture in pictures]
    assert [title.split(":")[0] for title in titles][1:] == [
        "Target and other change by class", "Dose and response",
    ]  # fmt: skip
    assert "by run" in titles[0]


def test_a_result_shows_its_table_with_intervals_and_caption(result: Result) -> None:
    html = result._repr_html_()
    assert html.count("<table>") == 2
    assert all(f'<td class="text">{name}</td>' in html for name in result.runs)
    assert "Protocol class, 6 images" in html
    assert "95% interval" in html
    assert "<small>[" in html
    text = str(result)
    assert "macro" in text
    assert "Protocol class, 6 images" in text


def test_classes_are_those_of_the_first_method_that_is_no_control(
    result: Result, tiny_world: World
) -> None:
    assert result.tables()[1].title.endswith("of auto-feat x-2")
    best = max(result, key=lambda run: run.report.macro_selectivity)
    assert best.method != "auto-feat"  # else nothing is told apart here
    parts = held(tiny_world)
    turned = semseg_cli.run(["rand-feat", "mean-diff", "auto-feat"], **parts)
    assert turned.tables()[1].title.endswith("of mean-diff x-2")
    controls = semseg_cli.run(["rand-vec", "rand-feat"], **parts)
    assert controls.tables()[1].title.endswith("of rand-vec -2 raw")


@pytest.mark.parametrize("columns", [None, "80", "120"])
def test_tables_are_as_wide_as_the_terminal(
    columns: str | None, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    width = int(columns or 80)
    made = result.compare()
    shown = [result, result["auto-feat"], made, result.compare(per_class=True)]
    widths = [max(map(len, str(one).splitlines())) for one in shown]
    assert max(widths) <= width
    assert max(widths) > 80 or width == 80
    paths = [str(run.folder) for run in result]
    assert str(made) == render(compare(Compare(), paths, width)).rstrip() or width != 80
    n_columns = len(compare(Compare(), paths, max(width, 100)).columns)
    assert made._repr_html_().count("</th>") == n_columns  # a page has room for more


def test_a_result_says_in_one_line_what_it_is(result: Result) -> None:
    assert repr(result) == "<Result: 3 runs, auto-feat x-2, rand-feat x-2, mean-diff x-2>"
    run = result["mean-diff"]
    macro = f"{run.report.macro_selectivity:.3f}"
    assert repr(run).startswith(f"<Run: mean-diff x-2, macro selectivity {macro} over ")
    assert repr(run).endswith(" classes, 6 images>")
    assert repr(result.compare()).endswith(" classes, 3 rows>")


def test_runs_are_found_by_name_or_method(result: Result) -> None:
    assert result["rand-feat"] is result["rand-feat x-2"]
    assert [run.method for run in result] == ["auto-feat", "rand-feat", "mean-diff"]
    with pytest.raises(KeyError, match="names 0 runs of auto-feat x-2"):
        result["insert"]
    with pytest.raises(
        UsageError, match=r"There are 3 runs .*: take one, result\['auto-feat x-2'\]"
    ):
        _ = result.report


def test_a_comparison_is_that_of_the_command(result: Result) -> None:
    paths = [str(run.folder) for run in result]
    assert (
        result.compare()
        .to_frame()
        .equals(semseg_cli.Comparison(compare(Compare(), paths, 100)).to_frame())
    )
    by_class = result.compare(per_class=True, baseline="mean-diff")
    assert by_class.caption
    assert "mean-diff" in " ".join(by_class.caption)
    assert "<table>" in by_class._repr_html_()
    with pytest.raises(UsageError, match="no option 'basline'"):
        result.compare(basline="mean-diff")


def test_marks_stand_beside_their_numbers() -> None:
    column = Column("gain", "gain", "difference")
    row = {"gain": 0.5, "gain_lo": 0.25, "gain_hi": 0.75, "gain_mark": "*"}
    made = semseg_cli.Comparison(Table("Runs", (column,), (row,), ("*: p <= .05",)))
    assert '<td data-value="0.5">+0.500* <small>[.25,.75]</small></td>' in made._repr_html_()
    assert made.to_frame().to_dict("records") == [row]


def test_one_run_alone_is_not_compared(tiny_world: World) -> None:
    one = semseg_cli.run("rand-vec", **held(tiny_world))
    with pytest.raises(UsageError, match="one run alone"):
        one.compare()
