"""Every class among its nulls, as a picture: what is drawn where."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from semseg_cli.show import calibration_chart
from semseg_cli.show.calibration_chart import forest_figure


def row(name: str, class_id: int, value: float | None, claimed: int) -> dict[str, Any]:
    nulls = {"peers_median": 0.0, "peers_p95": 0.1, "matched_median": 0.05, "matched_p95": 0.6}
    return {"class_name": name, "class_id": class_id, "value": value, "matched_value": value,
            "claimed": claimed, **nulls}  # fmt: skip


ROWS = [row("tree", 1, 0.5, 0), row("sky", 2, 0.9, 1), row("door", 3, None, 0)]


def drawn(monkeypatch: pytest.MonkeyPatch, *args: Any) -> Figure:
    kept: list[Figure] = []
    monkeypatch.setattr(calibration_chart, "save_plot", lambda figure, path: kept.append(figure))
    forest_figure(*args)
    return kept[0]


def test_judged_classes_stand_best_first_between_their_nulls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(monkeypatch, ROWS, tmp_path / "nulls.png")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sky", "tree"]
    lines = [tuple(segment[:, 0]) for one in axes.collections for segment in _segments(one)]
    assert lines == [(0.0, 0.1)] * 2 + [(0.05, 0.6)] * 2


def test_the_interval_over_images_is_drawn_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [
        {"class_id": 2, "selectivity_lo": 0.8, "selectivity_hi": 0.95},
        {"class_id": 1, "selectivity_lo": None, "selectivity_hi": None},
    ]
    figure = drawn(monkeypatch, ROWS, tmp_path / "nulls.png", results)
    lines = [
        tuple(float(end) for end in segment[:, 0])
        for one in figure.axes[0].collections
        for segment in _segments(one)
    ]
    assert lines[-1] == (0.8, 0.95)
    assert len(lines) == 5


def _segments(collection: Any) -> list[Any]:
    return list(collection.get_segments()) if hasattr(collection, "get_segments") else []


def test_a_suite_that_judged_no_class_has_a_picture(tmp_path: Path) -> None:
    forest_figure([ROWS[2]], tmp_path / "nulls.png")
    assert (tmp_path / "nulls.png").stat().st_size > 0
