"""The list of checks, and the command that runs them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from semseg_cli.commands.doctor import check_parts, check_surroundings, check_together
from semseg_cli.commands.doctor.findings import (
    Finding,
    NotApplicableError,
    is_fit,
    save_findings,
    to_table,
)
from semseg_cli.commands.doctor.patient import EVALUATION, LOOKUP, Patient
from semseg_cli.errors import SemsegError
from semseg_cli.settings.entries import flatten
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.output import Checkup
from semseg_cli.show import console

DATA = (EVALUATION, LOOKUP)
TRIED = ("residuals", "b_dec")


@dataclass(frozen=True)
class Check:
    """One row: its name, the rows that must not have failed, and how to find out.

    The function may also keep on the patient what it loads: rows that need it run later.
    """

    name: str
    find: Callable[[Patient], Finding]
    needs: tuple[str, ...] = ()


CHECKS: tuple[Check, ...] = (
    Check("options", check_parts.options),
    Check("device", check_parts.device),
    Check("head", check_parts.head, ("device",)),
    Check("dataset", check_parts.dataset),
    Check(EVALUATION, check_parts.split(EVALUATION), ("dataset",)),
    Check(LOOKUP, check_parts.split(LOOKUP), ("dataset",)),
    Check("classes", check_parts.classes, (EVALUATION,)),
    Check("ViT", check_parts.vit, ("device",)),
    Check("SAE", check_parts.sae, ("device",)),
    Check("layer", check_parts.layer, ("ViT",)),
    Check("tokens", check_parts.tokens, ("ViT",)),
    Check("head width", check_parts.head_width, ("head", "ViT")),
    Check("SAE width", check_parts.sae_width, ("SAE", "ViT")),
    Check("SAE layer", check_parts.sae_layer, ("SAE", "layer")),
    Check("statistics", check_parts.statistics, ("SAE",)),
    Check("residuals", check_together.residuals, ("layer", LOOKUP)),
    Check("site", check_together.site, ("residuals", "SAE width", "statistics")),
    Check("b_dec", check_together.centring, ("site",)),
    Check("SAE input", check_together.scaled_input, TRIED),
    Check("reconstruction", check_together.reconstruction, TRIED),
    Check("sparsity", check_together.sparsity, TRIED),
    Check("head accuracy", check_together.head_accuracy, ("head width", "classes")),
    Check(
        "splice",
        check_together.spliced,
        ("b_dec", "head width", "classes"),
    ),
    Check("tracking store", check_surroundings.store),
    Check("run folder", check_surroundings.run_folder),
    Check("cache folder", check_surroundings.cache_folder),
    Check(
        "disk",
        check_surroundings.disk,
        ("layer", "statistics", LOOKUP, "run folder", "cache folder"),
    ),
    Check("memory", check_surroundings.memory, ("layer", "SAE", EVALUATION)),
    Check("time", check_surroundings.time, ("b_dec", "classes", *DATA)),
)


def run_checks(checks: Sequence[Check], patient: Patient) -> list[Finding]:
    """One finding per check, in order. A known error is a failure; the checks after it still run.

    A check whose needs failed or were skipped is skipped.
    """
    done: dict[str, Finding] = {}
    for check in checks:
        lacking = [name for name in check.needs if done[name].status in ("fail", "skipped")]
        done[check.name] = replace(_find(check, patient, lacking), check=check.name)
    return list(done.values())


def _find(check: Check, patient: Patient, lacking: Sequence[str]) -> Finding:
    if lacking:
        return Finding("skipped", f"needs {', '.join(lacking)}")
    try:
        return check.find(patient)
    except NotApplicableError as reason:
        return Finding("skipped", f"needs {reason}")
    except SemsegError as error:
        return Finding("fail", "see below", str(error))


def _probed(patient: Patient) -> list[str]:
    """On how few images the parts were tried, where they were."""
    sizes = {role: len(patient.datasets[role]) for role in DATA if role in patient.datasets}
    few = patient.checkup.probe_images
    seen = [f"{min(few, n)} of the {n} of the {role}" for role, n in sizes.items()]
    tried = "residuals to splice are tried on a few images"
    return [f"A probe: {tried}, {', '.join(seen)} (--probe-images)."] if seen else []


def diagnose(setup: Setup, checkup: Checkup) -> bool:
    """Runs and prints all checks, and keeps what they found for the runs that follow.

    Says whether none failed.
    """
    with console.progress_bars(quiet=checkup.quiet) as progress:
        patient = Patient(setup, checkup, progress)
        findings = run_checks(CHECKS, patient)
    console.show(to_table(findings, _probed(patient)), checkup.format)
    try:
        save_findings(findings, patient.digests(), flatten(patient.settled))
    except SemsegError as error:  # its row has failed already; the table stands
        console.say(str(error), quiet=checkup.quiet)
    return is_fit(findings)
