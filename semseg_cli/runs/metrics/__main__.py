"""Prints docs/metrics.md, which is made of the table: `python -m semseg_cli.runs.metrics`."""

from collections.abc import Iterator

from semseg_cli.runs.metrics import TABLES, Metric

HEAD = """\
# Every number and its definition

Made by `python -m semseg_cli.runs.metrics`, from the table that all output is made of.

A *patch* is one of the squares that the vision transformer cuts an image into; its *class* is the
one that the head predicts for it, *before* the edit where nothing else is said. *Target* patches of
a class are those predicted as it, *other* patches are all the rest. Decimals in tables are as
listed, CSV and JSON have all. Where a number has an *interval*, its ends are `KEY_lo` and `KEY_hi`.
"""
TITLES = {
    "runs": (
        "Of a run",
        "In `report.json`, as MLflow's metrics, and in `compare`; those against a baseline in "
        "`compare` only.",
    ),
    "classes": (
        "Of a class in a run",
        "In `class_results.csv` and `compare --per-class`; those against a baseline in `compare` "
        "only.",
    ),
    "calibration": (
        "Of a class among its nulls",
        "In `calibration.csv` of a suite, and of those of its runs that choose latents.",
    ),
    "dictionaries": (
        "Of an SAE beside others",
        "In `dictionaries.csv` of a suite; those of an SAE alone also in the report of its run.",
    ),
    "latents": ("Of a latent, for a class", "In `lookup.csv`."),
    "heads": ("Of a trained head", "In `sweep.csv`, `classes.csv` and as MLflow's metrics."),
    "statistics": ("Of an autoencoder on a dataset", "In `stats.json` and as MLflow's metrics."),
    "splices": (
        "Of a reconstruction in place of the residual",
        "Of `stats`, in `stats.json`; the autoencoder's as MLflow's metrics, PCA's as `pca_KEY`.",
    ),
    "groups": ("Of a class's smallest group of latents", "In `groups.csv`."),
    "spliced classes": ("Of a class under that reconstruction", "In `splice.csv`."),
}
PLACES = {"table": "table", "tiles": "report.html", "view": "MLflow's list", "plots": "plots"}


def page() -> str:
    """The text of docs/metrics.md."""
    return "\n".join([HEAD, *(line for name in TABLES for line in _section(name))])


def _section(name: str) -> Iterator[str]:
    title, where = TITLES[name]
    yield f"## {title}\n\n{where}\n"
    yield "| key | shown as | unit | decimals | interval | shown in | definition |"
    yield "|---|---|---|---|---|---|---|"
    yield from map(_row, TABLES[name])
    yield ""


def _row(metric: Metric) -> str:
    short = f", short `{metric.short}`" if metric.short not in ("", metric.key) else ""
    cells = (
        f"`{metric.key}`{short}",
        metric.name,
        metric.unit,
        "as needed" if metric.digits is None else str(metric.digits),
        "95%" if metric.has_interval else "",
        ", ".join(PLACES[place] for place in metric.shown),
        metric.help.replace("|", r"\|"),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(page(), end="")
