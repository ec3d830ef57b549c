"""The list of checks, and the command that runs them."""

from semseg_cli import console
from semseg_cli.checkup import Check, is_fit, run_checks, save_findings, to_table
from semseg_cli.config import Checkup, Setup
from semseg_cli.doctor import parts, surroundings, trial
from semseg_cli.doctor.patient import EVALUATION, LOOKUP, Patient
from semseg_cli.errors import SemsegError
from semseg_cli.flat import flatten

DATA = (EVALUATION, LOOKUP)
TRIED = ("residuals", "b_dec")

CHECKS: tuple[Check[Patient], ...] = (
    Check("options", parts.options),
    Check("device", parts.device),
    Check("head", parts.head, ("device",)),
    Check("dataset", parts.dataset),
    Check(EVALUATION, parts.split(EVALUATION), ("dataset",)),
    Check(LOOKUP, parts.split(LOOKUP), ("dataset",)),
    Check("classes", parts.classes, (EVALUATION,)),
    Check("ViT", parts.vit, ("device",)),
    Check("layer", parts.layer, ("ViT",)),
    Check("tokens", parts.tokens, ("ViT",)),
    Check("head width", parts.head_width, ("head", "ViT")),
    Check("SAE", parts.sae, ("device",)),
    Check("SAE width", parts.sae_width, ("SAE", "ViT")),
    Check("SAE layer", parts.sae_layer, ("SAE",)),
    Check("statistics", parts.statistics, ("SAE",)),
    Check("residuals", trial.residuals, ("layer", LOOKUP)),
    Check("b_dec", trial.centring, ("residuals", "SAE width", "statistics")),
    Check("SAE input", trial.scaled_input, TRIED),
    Check("reconstruction", trial.reconstruction, TRIED),
    Check("sparsity", trial.sparsity, TRIED),
    Check("head accuracy", trial.head_accuracy, ("head width", "classes")),
    Check("tracking store", surroundings.store),
    Check("run folder", surroundings.run_folder),
    Check("cache folder", surroundings.cache_folder),
    Check("disk", surroundings.disk, ("ViT", "statistics", LOOKUP, "run folder", "cache folder")),
    Check("memory", surroundings.memory, ("ViT", "SAE", EVALUATION)),
    Check("time", surroundings.time, ("b_dec", "classes", *DATA)),
)


def diagnose(setup: Setup, checkup: Checkup) -> bool:
    """Runs and prints all checks, and keeps what they found for the runs that follow.

    Says whether none failed.
    """
    with console.progress_bars(quiet=checkup.quiet) as progress:
        patient = Patient(setup, checkup, progress)
        findings = run_checks(CHECKS, patient)
    console.show(to_table(findings), checkup.format)
    try:
        save_findings(findings, patient.digests(), flatten(setup))
    except SemsegError as error:  # its row has failed already; the table stands
        console.say(str(error), quiet=checkup.quiet)
    return is_fit(findings)
