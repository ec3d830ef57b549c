"""How sure the numbers of runs and their differences are, as entries of rows. No torch, no mlflow.

A run is compared with a control that was drawn class by class with the luck of its draw in the
error; with any other run image by image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from semseg_cli.commands.compare.artifacts import Artifacts, least_patches, n_draws
from semseg_cli.commands.compare.like_with_like import (
    Pair,
    Units,
    can_draw,
    common_classes,
    is_drawn,
    pair,
)
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.inference import (
    MEASURES,
    Difference,
    Interval,
    Test,
    benjamini_hochberg,
    class_differences,
    control_class_differences,
    control_differences,
    holm,
    macro_classes,
    macro_differences,
    mark,
    pooled_differences,
)
from semseg_cli.runs.interval_rows import difference_entries, run_entries
from semseg_cli.tracking.tracked_run import TrackedRun

Values = dict[str, dict[str, Any]]  # by run id
_NO_DRAWS = "the draws of the control cannot be read"
_WHY = "no class has enough patches in both"
NOTHING = Difference(Interval(None, None, None, None, 0, "", _WHY), Test(None, "", _WHY))


def run_values(chosen: Candidates, artifacts: Artifacts, units: Units) -> Values:
    """Per run id what goes into its row beside its metrics: its numbers over the classes that all
    runs have, their intervals, differences to the baseline, p values, marks."""
    values: Values = {run.run_id: {} for run in chosen.shown}
    classes = common_classes(chosen.shown, artifacts)
    for run in chosen.shown:
        if run.run_id in classes:
            values[run.run_id] = _numbers(run, classes[run.run_id], artifacts, units)
    found: dict[str, dict[str, Difference]] = {}
    for run in chosen.shown:
        both = pair(run, chosen.baselines.get(run.run_id), artifacts, units)
        if both is not None:
            kept = _of(both, classes[run.run_id])
            found[run.run_id] = run_differences(kept, artifacts)
            values[run.run_id]["baseline"] = both.baseline.name
    for name in (f"{scope}{measure}" for scope in ("macro_", "") for measure in MEASURES):
        _add(values, {run_id: made[name] for run_id, made in found.items()}, name)
    return values


def _numbers(
    run: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts, units: Units
) -> dict[str, Any]:
    counts = artifacts.per_image(run)
    assert counts is not None
    units_bc4 = units.of(counts, class_ids)
    unit = {} if units.groups(counts) is None else {"unit": "groups", "n_groups": len(units_bc4)}
    return {
        **run_entries(units_bc4, least_patches(run)),
        **unit,
        "n_classes_compared": len(class_ids),
    }


def _of(both: Pair, class_ids: Sequence[int]) -> Pair:
    """The pair on those of its classes that are compared."""
    kept = [k for k, class_id in enumerate(both.class_ids) if class_id in class_ids]
    return replace(
        both,
        class_ids=[both.class_ids[k] for k in kept],
        one_bc4=both.one_bc4[:, kept],
        other_bc4=both.other_bc4[:, kept],
    )


def run_differences(both: Pair, artifacts: Artifacts) -> dict[str, Difference]:
    """The run minus its baseline by the keys of runs; no p where the edits are unlike in length."""
    found: dict[str, Difference] = {}
    for scope in ("macro", "pooled"):
        is_kept_c = np.ones(len(both.class_ids), dtype=bool)
        if scope == "macro":
            counts = (both.one_bc4, both.other_bc4)
            is_kept_c = both.is_tested_c & macro_classes(counts[0]) & macro_classes(counts[1])
        prefix = "macro_" if scope == "macro" else ""
        if not is_kept_c.any():
            found |= {f"{prefix}{name}": NOTHING for name in MEASURES}
            continue
        kept = _of(both, [c for c, k in zip(both.class_ids, is_kept_c, strict=True) if k])
        made = _differences(kept, artifacts, scope)
        found |= {f"{prefix}{name}": _untested(made[name], both.apart) for name in MEASURES}
    return found


def _differences(both: Pair, artifacts: Artifacts, scope: Any) -> dict[str, Difference]:
    one_bc4, other_bc4 = both.one_bc4, both.other_bc4
    if is_drawn(both.baseline):
        found = control_differences(
            one_bc4, other_bc4, _draws(both.baseline, both.class_ids, artifacts), scope=scope,
            is_draw=is_drawn(both.run), can_draw=can_draw(both.baseline),
        )  # fmt: skip
        return {name: _known(made, both.baseline, artifacts) for name, made in found.items()}
    if is_drawn(both.run):
        found = control_differences(
            other_bc4, one_bc4, _draws(both.run, both.class_ids, artifacts), scope=scope,
            can_draw=can_draw(both.run),
        )  # fmt: skip
        return {
            name: reversed_difference(_known(made, both.run, artifacts))
            for name, made in found.items()
        }
    test = macro_differences if scope == "macro" else pooled_differences
    return test(one_bc4, other_bc4)


def _known(found: Difference, drawn: TrackedRun, artifacts: Artifacts) -> Difference:
    """Nothing but the value where the draws of a run that has several are not known."""
    if n_draws(drawn) == 1 or artifacts.draws(drawn) is not None:
        return found
    bare = replace(found.interval, lo=None, hi=None, n_eff=None, reason=_NO_DRAWS)
    return Difference(bare, Test(None, found.test.method, _NO_DRAWS))


def _draws(run: TrackedRun, class_ids: Sequence[int], artifacts: Artifacts) -> np.ndarray | None:
    draws = artifacts.draws(run)
    return None if draws is None else draws.on(class_ids)


def class_values(both: Pair, artifacts: Artifacts) -> dict[int, dict[str, Any]]:
    """By class id the differences to the baseline, corrected over the classes that have enough
    patches."""
    if is_drawn(both.baseline):
        draws = _draws(both.baseline, both.class_ids, artifacts)
        drawn = control_class_differences(
            both.one_bc4, both.other_bc4, draws, is_draw=is_drawn(both.run),
            can_draw=can_draw(both.baseline),
        )  # fmt: skip
        made = {m: [_known(one, both.baseline, artifacts) for one in drawn[m]] for m in MEASURES}
    elif is_drawn(both.run):
        draws = _draws(both.run, both.class_ids, artifacts)
        turned = control_class_differences(
            both.other_bc4, both.one_bc4, draws, can_draw=can_draw(both.run)
        )
        made = {
            m: [reversed_difference(_known(one, both.run, artifacts)) for one in turned[m]]
            for m in MEASURES
        }
    else:
        made = class_differences(both.one_bc4, both.other_bc4)
    values: dict[int, dict[str, Any]] = {class_id: {} for class_id in both.class_ids}
    for name in MEASURES:
        found = dict(zip(both.class_ids, made[name], strict=True))
        tested = zip(found.items(), both.is_tested_c, strict=True)
        known = {
            c: _untested(one, both.apart or ("" if enough else "few patches"))
            for (c, one), enough in tested
        }
        for class_id, p in zip(known, benjamini_hochberg(_p(known)), strict=True):
            values[class_id] |= difference_entries(name, known[class_id])
            values[class_id][f"{name}_p_adjusted"] = p
            # What the reader sees is the value: the mark of its difference stands there.
            values[class_id][f"{name}_mark"] = mark(p, known[class_id].interval)
    return values


def _p(found: Mapping[Any, Difference]) -> list[float | None]:
    return [one.test.p for one in found.values()]


def _add(values: Values, found: Mapping[str, Difference], name: str) -> None:
    """The differences in one measure, corrected over the runs."""
    for run_id, p in zip(found, holm(_p(found)), strict=True):
        entries = difference_entries(name, found[run_id])
        entries[f"{name}_p_adjusted"] = p
        entries[f"{name}_difference_mark"] = mark(p, found[run_id].interval)
        values[run_id] |= entries


def _untested(found: Difference, why: str) -> Difference:
    return replace(found, test=Test(None, found.test.method, why)) if why else found


def reversed_difference(found: Difference) -> Difference:
    """The other minus the one."""
    i = found.interval
    turned = Interval(
        _minus(i.value), _minus(i.hi), _minus(i.lo), i.n_eff, i.n_images, i.method, i.reason
    )
    return Difference(turned, found.test)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
