"""The table of numbers: every number that is left has its row, and the page is made of the rows."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_folders import make_folder, make_report

from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.experiment.flip_rate import FLIP_RATE
from semseg_cli.runs.folder import CLASSES_FILE
from semseg_cli.runs.interval_rows import class_entries, interval_metrics, run_entries
from semseg_cli.runs.lookup_csv import COLUMNS
from semseg_cli.runs.metrics import (
    CLASSES,
    LATENTS,
    RUNS,
    SHORT,
    SHORT_OF_CLASSES,
    TABLES,
    Metric,
    find,
    shown,
)
from semseg_cli.runs.metrics.__main__ import page
from semseg_cli.runs.rows import read_rows
from semseg_cli.show.run_tables import METRICS, to_column
from semseg_cli.show.tables import interval

DOCS = Path(__file__).parents[2] / "docs"


def unknown(keys: Iterable[str], metrics: tuple[Metric, ...]) -> set[str]:
    return {key for key in keys if find(metrics, key) is None}


def test_the_page_is_made_of_the_table() -> None:
    assert (DOCS / "metrics.md").read_text("utf-8") == page()
    for metric in (metric for table in TABLES.values() for metric in table):
        assert f"| `{metric.key}`" in page()
        assert metric.help in page()


@pytest.mark.parametrize("name", TABLES)
def test_every_row_defines_its_number(name: str) -> None:
    keys = [metric.key for metric in TABLES[name]]
    assert len(set(keys)) == len(keys)
    for metric in TABLES[name]:
        assert metric.unit, metric.key
        assert metric.help.endswith("."), metric.key
        assert metric.help[0].isupper() or not metric.help[0].isalpha(), metric.key


def test_every_metric_of_a_report_has_a_row() -> None:
    counts = np.random.default_rng(0).integers(1, 9, (6, 2, 4)).cumsum(axis=2)[..., [1, 0, 3, 2]]
    curve = dose_metrics([replace(make_report(), intervention_scale=s) for s in (-1.0, -2.0)])
    extra = {**interval_metrics(run_entries(counts, 1)), **curve, FLIP_RATE: 0.1}
    metrics = replace(make_report(), n_draws=3, min_patches=1, extra=extra).metrics()
    assert {"half_effect_scale", "curve_end", "macro_selectivity_lo", "n_draws"} <= set(metrics)
    assert unknown(metrics, RUNS) == set()
    assert unknown(run_entries(counts, 1), RUNS) == set()
    assert unknown(class_entries(counts)[0], CLASSES) == set()
    assert unknown(make_report().to_csv_row(), RUNS) == {"method"}


def test_every_column_of_classes_and_latents_has_a_row(tmp_path: Path) -> None:
    (row, _) = read_rows(make_folder(tmp_path).path / CLASSES_FILE)
    assert "latent" in row
    assert unknown(row, CLASSES) == {"class_name"}
    assert unknown(COLUMNS, LATENTS) == {"class_name"}


def test_a_number_without_a_row_is_found() -> None:
    assert unknown(["selectivity", "surprise", "n_images_lo"], RUNS) == {"surprise", "n_images_lo"}


def test_what_has_an_interval_shows_it_and_nothing_else_does() -> None:
    for metric in RUNS:
        row = {metric.key: 0.5, f"{metric.key}_lo": 0.25, f"{metric.key}_hi": 0.75}
        assert bool(interval(row, to_column(metric))) == metric.has_interval, metric.key


def test_places_show_their_metrics_in_the_order_of_the_table() -> None:
    macro = ["macro_target_change", "macro_other_change", "macro_selectivity"]
    pooled = ["target_change", "other_change"]
    length = ["edit_ratio", "off_manifold"]
    harm = ["damage", "interior_other_change", "margin_drop"]
    of_view = [*macro, *pooled, "selectivity", "edit_norm"]
    assert [metric.key for metric in shown(RUNS, "view")] == of_view
    assert [metric.key for metric in shown(RUNS, "tiles")] == [*of_view, *harm, *length]
    compared = ["macro_selectivity_difference", "macro_selectivity_p_adjusted"]
    assert [c.key for c in METRICS] == [*macro, *compared, *pooled, "edit_norm", *length]


def test_a_short_name_means_one_key() -> None:
    for metrics, short in ((RUNS, SHORT), (CLASSES, SHORT_OF_CLASSES)):
        given = [metric.short for metric in metrics if metric.short]
        assert len(set(given)) == len(given)
        assert not set(short) & {metric.key for metric in metrics}
    assert SHORT["macro_target"] == "macro_target_change"
    assert SHORT_OF_CLASSES["patches"] == "n_orig_patches"


def test_the_table_loads_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import semseg_cli.runs.metrics;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['semseg_cli']"
