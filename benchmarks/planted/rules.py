"""Rules of decision, and how often each names the role right."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.planted.cases import Case
from benchmarks.planted.plan import ROLES
from benchmarks.trust.accepted import Check
from semseg_cli.runs.rows import Row
from semseg_cli.settings.intervening import Control

SUITE = "the suite's: above all controls"
HALF = 0.5
LEAST_DRIVERS, MOST_FALSE = 0.95, 0.05
NULLS: tuple[Control, ...] = ("random", "pca", "shuffled")
Rule = Callable[[Case], bool]  # whether a class is claimed


def selectivity(case: Case) -> float:
    """Target minus other change of the latent's own edit; as of none where it is not told."""
    return case.standing.value or 0.0


def make_rules(cases: Sequence[Case]) -> Mapping[str, Rule]:
    """Every rule by name; two with the threshold that turns out best on these very cases."""
    f1, value = best_threshold(cases, lambda case: case.f1), best_threshold(cases, selectivity)
    return {
        "F1 >= .5": lambda case: case.f1 >= HALF,
        f"F1 >= {f1:.2f} (in hindsight)": lambda case: case.f1 >= f1,
        "selectivity >= .5": lambda case: selectivity(case) >= HALF,
        f"selectivity >= {value:.2f} (in hindsight)": lambda case: selectivity(case) >= value,
        "necessity, sufficiency >= .5": lambda case: min(case.necessity, case.sufficiency) >= HALF,
        "the suite's, need not asked": lambda case: case.need_not_asked.is_claimed,
        SUITE: lambda case: case.standing.is_claimed,
    }


def is_right(case: Case, rule: Rule) -> bool:
    """Whether drivers are claimed, and others not."""
    return rule(case) == (case.role == "driver")


def best_threshold(cases: Sequence[Case], score: Callable[[Case], float]) -> float:
    """The score that most classes are told apart by; of several the smallest."""

    def n_right(least: float) -> int:
        return sum((score(case) >= least) == (case.role == "driver") for case in cases)

    return max(sorted(map(score, cases)), key=n_right)


def role_rows(cases: Sequence[Case]) -> list[Row]:
    """Per rule how many classes it names right, and how many of each role it claims."""
    of_role: dict[str, list[Case]] = {
        role: [case for case in cases if case.role == role] for role in ROLES
    }
    rows: list[Row] = []
    for name, rule in make_rules(cases).items():
        claimed: Row = {role: _of(rule, of) for role, of in of_role.items()}
        right = sum(is_right(case, rule) for case in cases) / len(cases)
        rows.append({"rule": name, "right": right, **claimed})
    return rows


def null_rows(cases: Sequence[Case], nulls: Sequence[Case]) -> list[Row]:
    """Per rule, with its thresholds from the planted dictionaries, how many classes of each null
    dictionary it claims."""
    by_null = {null: [case for case in nulls if case.control == null] for null in NULLS}
    return [
        {"rule": name, **{null: _of(rule, of) for null, of in by_null.items()}}
        for name, rule in make_rules(cases).items()
    ]


def _of(rule: Rule, cases: Sequence[Case]) -> str:
    return f"{sum(map(rule, cases))} of {len(cases)}"


def checks(cases: Sequence[Case], nulls: Sequence[Case]) -> list[Check]:
    """What is promised of the suite's rule."""
    rule = make_rules(cases)[SUITE]
    found = []
    for role in ROLES:
        claimed = _share([case for case in cases if case.role == role], rule)
        if role == "driver":
            kept, bound = claimed >= LEAST_DRIVERS, f"at least {LEAST_DRIVERS:.0%}"
        else:
            kept, bound = claimed <= MOST_FALSE, f"at most {MOST_FALSE:.0%}"
        found.append(Check(f"{role}: {bound} claimed", f"{claimed:.1%}", kept))
    for null in NULLS:
        claimed = _share([case for case in nulls if case.control == null], rule)
        promise = f"{null} SAE: at most {MOST_FALSE:.0%} claimed"
        found.append(Check(promise, f"{claimed:.1%}", claimed <= MOST_FALSE))
    by_rule = {
        name: sum(is_right(case, one) for case in cases) for name, one in make_rules(cases).items()
    }
    others = max(n for name, n in by_rule.items() if name != SUITE)
    found.append(
        Check(
            "no rule names more roles right",
            f"{by_rule[SUITE]}, next {others} of {len(cases)}",
            by_rule[SUITE] >= others,
        )
    )
    return found


def _share(cases: Sequence[Case], rule: Rule) -> float:
    return sum(map(rule, cases)) / max(1, len(cases))
