"""Charts: files of a sensible size that show what their rows say."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from pictures_made import drawing, has_colour, picture

from semseg_cli.errors import SemsegError
from semseg_cli.show import change_chart, chart_style, charts
from semseg_cli.show.chart_style import DPI, OTHER, TARGET, save_figure, save_plot, short_name

MACRO = {"macro_target_change": 0.7, "macro_other_change": 0.1}


def class_rows(n: int, **changes: Any) -> list[dict[str, Any]]:
    """Classes of falling selectivity, each with intervals."""
    rows = []
    for i in range(1, n + 1):
        target, other = 1 - i / (n + 1), 0.05
        row = {
            "class_id": i, "class_name": f"class number {i}", "n_orig_patches": 100,
            "target_change": target, "target_change_lo": target * 0.9, "target_change_hi": target,
            "other_change": other, "other_change_lo": 0.04, "other_change_hi": 0.06,
            "selectivity": target - other,
        }  # fmt: skip
        rows.append({**row, **changes})
    return rows


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from here on."""
    kept: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save_plot(figure, path)

    for module in (charts, change_chart):
        monkeypatch.setattr(module, "save_plot", keep)
    return kept


def names_on(figure: Figure) -> list[str]:
    return [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]


@pytest.mark.parametrize(("n", "n_columns"), [(1, 1), (50, 1), (51, 2), (150, 3)])
def test_every_class_has_a_line_of_its_own(
    n: int, n_columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept, path) = drawn(monkeypatch), tmp_path / "plots" / "a.png"
    charts.class_figure(class_rows(n), path)
    (figure,) = kept
    assert names_on(figure) == [f"class number {i}" for i in range(1, n + 1)]
    assert len(figure.axes) == n_columns
    pixels = picture(path)
    width, height = figure.get_size_inches() * DPI
    assert pixels.shape[:2] == pytest.approx((height, width), abs=1)
    assert figure.get_size_inches()[0] <= 16
    # A line of text at 8 pt needs 11 pt.
    n_lines = -(-n // n_columns)
    assert figure.get_size_inches()[1] * 72 >= 11 * n_lines
    assert has_colour(pixels, TARGET)
    assert has_colour(pixels, OTHER)


def test_labels_do_not_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn(monkeypatch)
    charts.class_figure(class_rows(150, class_name="w" * 40), tmp_path / "a.png")
    for axes in kept[0].axes:
        boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
        tops, bottoms = [box.y1 for box in boxes[1:]], [box.y0 for box in boxes]
        assert all(top < bottom for top, bottom in zip(tops, bottoms, strict=False))
        assert all(box.x1 <= axes.get_window_extent().x0 for box in boxes)
    left = [axes.get_window_extent().x1 for axes in kept[0].axes[:-1]]
    right = [axes.get_yticklabels()[0].get_window_extent().x0 for axes in kept[0].axes[1:]]
    assert all(a < b for a, b in zip(left, right, strict=True))


def test_a_plot_is_laid_out_once_to_the_pixels_of_a_figure_saved_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out: list[Figure] = []
    execute = ConstrainedLayoutEngine.execute

    def counted(engine: ConstrainedLayoutEngine, figure: Figure) -> Any:
        laid_out.append(figure)
        return execute(engine, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counted)
    figure = charts.class_chart(class_rows(4))
    save_plot(figure, tmp_path / "a.png")
    assert laid_out == [figure]
    assert isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
    charts.class_chart(class_rows(4)).savefig(tmp_path / "b.png", dpi=DPI)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_classes_without_patches_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rows = class_rows(3)
    rows[1] |= {"n_orig_patches": 0, "target_change": None, "selectivity": None}
    rows[2]["n_orig_patches"] = 9
    charts.class_figure(rows, tmp_path / "a.png", min_patches=10)
    assert names_on(kept[0]) == ["class number 1", "class number 3"]
    assert "hollow: fewer than 10 predicted patches; 1 without" in kept[0].get_suptitle()


@pytest.mark.parametrize(
    ("row", "below", "above"),
    [
        ({"x": 0.5, "x_lo": 0.4, "x_hi": 0.8}, 0.1, 0.3),
        ({"x": 0.5, "x_lo": 0.6, "x_hi": 0.8}, 0.0, 0.3),
        ({"x": 0.5}, np.nan, np.nan),
        ({"x": 0.5, "x_lo": None, "x_hi": 0.8}, np.nan, np.nan),
    ],
)
def test_bars_reach_the_ends_of_the_interval(
    row: dict[str, float], below: float, above: float
) -> None:
    np.testing.assert_allclose(charts._interval([row], "x"), [[below], [above]], atol=1e-12)


@pytest.mark.parametrize("name", ["$\\frac{1}{0}$", "a$b_c^", "海 and sea", "x" * 300, "a\nb"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    rows = class_rows(2, class_name=name)
    charts.class_figure(rows, tmp_path / "a.png")
    charts.extremes_figure(rows, tmp_path / "b.png")
    runs = [{"run": name, "scale": 1.0, **MACRO}, {"run": name, "scale": 2.0, **MACRO}]
    charts.comparison_figure(runs, tmp_path / "c.png")
    charts.dose_figure(runs, tmp_path / "d.png", name)
    flow = {"class_id": 1, "class_name": name, "new_class_id": 2, "new_class_name": name}
    change_chart.flow_figure([{**flow, "n_patches": 3}], {1: 4}, tmp_path / "e.png")
    assert len([picture(path) for path in tmp_path.glob("*.png")]) == 5
    assert len([drawing(path) for path in tmp_path.glob("*.svg")]) == 4


def test_runs_in_which_no_class_has_enough_patches_are_named_without_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    told, untold = {"run": "told", "scale": -1.0, **MACRO}, {"run": "untold", "scale": -2.0}
    for rows in ([told, untold], [untold]):
        names = names_on(charts.comparison_chart(rows))
        assert names[-1] == "untold (no class has enough patches)"
        charts.dose_figure(rows, tmp_path / "a.png")
    assert len(kept) == 2
    assert picture(tmp_path / "a.png").size


def test_short_names_are_cut_at_the_end() -> None:
    assert short_name("sea") == "sea"
    assert short_name("chest of\n drawers", 10) == "chest of…"


def test_runs_keep_their_order() -> None:
    rows = [
        {"run": "worse", "macro_target_change": 0.1, "macro_other_change": 0.2},
        {"run": "better", "macro_target_change": 0.3, "macro_other_change": 0.0,
         "macro_target_change_lo": 0.2, "macro_target_change_hi": 0.4},
    ]  # fmt: skip
    figure = charts.comparison_chart(rows)
    assert names_on(figure) == ["worse", "better"]
    low, high = figure.axes[0].get_xlim()
    assert low < 0 < 0.4 < high < 0.5


@pytest.mark.parametrize("suffix", chart_style.SUFFIXES)
def test_a_comparison_is_drawn_in_each_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    charts.comparison_figure([{"run": "a", **MACRO}], path)
    assert path.stat().st_size > 1000


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match=r"that ends in \.png, \.pdf, \.svg\."):
        save_figure(Figure(), tmp_path / "a.doc")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SemsegError, match=r"Cannot write .*file.* give another --plot\.$"):
        save_figure(Figure(), tmp_path / "file" / "a.png", "--plot")


def test_the_dose_goes_from_left_to_right_through_clean_with_intervals_as_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rows = [
        {"scale": scale, "macro_target_change": -scale / 4, "macro_other_change": 0.0,
         "macro_target_change_lo": 0.1, "macro_target_change_hi": 1.0}
        for scale in (-4, -2)
    ]  # fmt: skip
    charts.dose_figure(rows, tmp_path / "a.png", "auto-feat")
    target, _ = kept[0].axes[0].lines
    assert np.asarray(target.get_xdata()).tolist() == [-4, -2, 0]
    assert np.asarray(target.get_ydata()).tolist() == [1.0, 0.5, 0.0]
    band = np.asarray(kept[0].axes[0].collections[0].get_paths()[0].vertices)
    assert {(-4.0, 0.1), (-4.0, 1.0), (0.0, 0.0)} <= {tuple(point) for point in band.tolist()}
    assert kept[0].get_suptitle() == "Dose and response: auto-feat"
    assert picture(tmp_path / "a.png").shape == (4.2 * DPI, 7 * DPI, 3)


def test_the_dose_has_the_edit_s_length_on_a_second_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rows = [{"scale": -2.0, "edit_ratio": 0.456, **MACRO}, {"scale": -1.0, **MACRO}]
    charts.dose_figure(rows, tmp_path / "a.png")
    (above,) = kept[0].axes[0].child_axes
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["0.46"]
    assert above.get_xticks().tolist() == [-2.0]
    charts.dose_figure([rows[1]], tmp_path / "b.png")
    assert kept[1].axes[0].child_axes == []


def test_an_ablation_is_part_of_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn(monkeypatch)
    rows = [
        {"scale": scale, "macro_target_change": target, "macro_other_change": 0.0}
        for scale, target in ((0.0, 0.2), (-2.0, 0.9))
    ]
    charts.dose_figure(rows, tmp_path / "a.png")
    target, _ = kept[0].axes[0].lines
    assert np.asarray(target.get_ydata()).tolist() == [0.9, 0.2]


def test_a_class_without_others_has_its_target_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rows = class_rows(2)
    rows[0] |= {"other_change": None, "selectivity": None}
    charts.class_figure(rows[:1], tmp_path / "a.png")
    assert names_on(kept[0]) == ["class number 1"]
    assert kept[0].get_suptitle() == "Target and other change by class"
    assert has_colour(picture(tmp_path / "a.png"), TARGET)
    charts.extremes_figure(rows, tmp_path / "b.png")
    assert names_on(kept[1]) == ["class number 2"]


# --- best and worst -----------------------------------------------------------------------------


def test_few_classes_are_all_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn(monkeypatch)
    charts.extremes_figure(class_rows(20), tmp_path / "a.png")
    assert len(names_on(kept[0])) == 20
    assert kept[0].get_suptitle() == "All 20 classes by selectivity"


def test_of_many_classes_the_ends_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rows = class_rows(30)
    rows[0]["n_orig_patches"] = 49
    charts.extremes_figure(rows, tmp_path / "a.png", min_patches=50, n_most=3)
    shown = [1 + i for i in (1, 2, 3)] + [0] + [28, 29, 30]
    assert names_on(kept[0]) == [f"class number {i}" if i else "⋮" for i in shown]
    assert "1 with fewer than 50 predicted patches left out" in kept[0].get_suptitle()
    pixels = picture(tmp_path / "a.png")
    assert pixels.shape[:2] == (int((1.3 + 0.26 * 7) * DPI), 7 * DPI)


# --- flows --------------------------------------------------------------------------------------


def flow(origin: int, target: int, n: int) -> dict[str, Any]:
    names = {"class_name": f"c{origin}", "new_class_name": f"c{target}"}
    return {"class_id": origin, "new_class_id": target, "n_patches": n, **names}


def test_the_largest_flows_choose_the_classes() -> None:
    every = [flow(1, 2, 50), flow(1, 3, 5), flow(2, 1, 40), flow(3, 4, 30), flow(4, 1, 20)]
    assert change_chart._largest(every, 2) == ([1, 2], [2, 1])
    assert (
        change_chart._coverage(every, [1, 2], [2, 1]) == "62% of the 145 changed patches are shown"
    )
    assert change_chart._largest(every, 9) == ([1, 2, 3, 4], [2, 1, 4, 3])


def test_flows_are_shares_of_the_class_they_leave() -> None:
    shares = change_chart._shares([flow(1, 2, 50), flow(2, 1, 5)], {1: 100, 2: 10}, [1, 2], [2, 1])
    np.testing.assert_array_equal(shares, [[0.5, np.nan], [np.nan, 0.5]])


def test_flows_of_many_classes_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = drawn(monkeypatch)
    rng = np.random.default_rng(0)
    every = [flow(i, j, int(rng.integers(1, 99))) for i in range(1, 151) for j in range(1, 151)]
    change_chart.flow_figure(every, dict.fromkeys(range(1, 151), 10_000), tmp_path / "a.png")
    (axes,) = kept[0].axes
    assert len(names_on(kept[0])) == 16
    assert len(axes.get_xticklabels()) == 16
    assert picture(tmp_path / "a.png").shape[:2] == (int(7.44 * DPI), int(10.56 * DPI))


def test_no_flow_at_all_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn(monkeypatch)
    change_chart.flow_figure([], {1: 4}, tmp_path / "a.png")
    assert kept[0].axes[0].get_xlabel() == "no patch of any class changed"


def test_nothing_of_pyplot_is_loaded() -> None:
    code = (
        "import sys; from semseg_cli.show import change_chart, example_picture; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "matplotlib.figure" in loaded
    assert "matplotlib.pyplot" not in loaded
    assert "torch" not in loaded
