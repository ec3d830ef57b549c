"""The report in a report.json, or the sentence that says why it is none."""

from dataclasses import fields
from typing import Any

from semseg_cli.errors import VersionError
from semseg_cli.readers import unreadable
from semseg_cli.runs.field_types import shortened
from semseg_cli.runs.report import SCHEMA_VERSION, ClassResults, Report
from semseg_cli.settings.methods import called_now

EXPECTED = "expected the report of a run"


def report_of(data: Any, source: str = "report.json") -> Report:
    """The report that `to_dict` was made from; `source` is what messages call it.

    Raises:
        FileError: the data is no report, or one of another schema version.
    """
    if not isinstance(data, dict):
        raise unreadable(source, "it holds no object", EXPECTED)
    if data.get("schema_version") != SCHEMA_VERSION:
        raise VersionError(
            f"{source} has schema version {shortened(data.get('schema_version'))}, this version "
            f"of semseg-cli reads {SCHEMA_VERSION}: read it with the version that wrote it."
        )
    try:
        kept = {f.name: data[f.name] for f in fields(Report)}
        kept["class_results"] = [_class_from_dict(row) for row in kept["class_results"]]
        report = Report(**{**kept, "method": called_now(kept["method"])})
        _check_counts(report)
    except KeyError as error:
        raise unreadable(source, f"it lacks {error}", EXPECTED) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise unreadable(source, str(error), EXPECTED) from error
    return report


def _class_from_dict(row: dict[str, Any]) -> ClassResults:
    # JSON has string keys only.
    flow = {int(to): n for to, n in row["change_distribution"].items()}
    return ClassResults(**{**row, "change_distribution": flow})


def _check_counts(report: Report) -> None:
    """Refuses counts that no run can have: parts beyond their whole, or below nothing."""
    if report.n_draws < 1 or min(report.n_images, report.n_patches, report.min_patches) < 0:
        raise ValueError("its counts are below what is possible")
    for result in report.class_results:
        moved = result.change_distribution.values()
        parts = (
            (result.n_changed_patches, result.n_orig_patches),
            (result.n_other_changed, result.n_other_patches),
            (sum(moved), result.n_changed_patches),
        )
        if any(not 0 <= part <= whole for part, whole in parts) or min(moved, default=1) < 1:
            raise ValueError(f"of {result.class_name!r} more patches changed than there are")
