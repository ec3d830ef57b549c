"""A method's runs, from their settings to the last printed line."""

from semseg_cli.commands.method_runs import Finished, run_recorded
from semseg_cli.commands.next_steps import compare_commands, go_on, print_where
from semseg_cli.commands.opening import open_parts, open_store, print_plan
from semseg_cli.commands.recording import require_tracked
from semseg_cli.commands.results import classes_of, extremes_of, summary_of
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.commands.same_settings import require_same_settings
from semseg_cli.commands.stopped import find_stopped
from semseg_cli.errors import UsageError
from semseg_cli.experiment.samples import with_draws
from semseg_cli.ranks.ending import together
from semseg_cli.ranks.group import from_lead, n_ranks
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Output, Resumable
from semseg_cli.show import console


@together()
def intervene(setup: Setup, method: Method, output: Resumable) -> None:
    """Runs one method at its scales: folders, tracking, tables."""
    require_same_settings(setup, method, output)
    stopped = _stopped(output)
    store = open_store(output)
    reused = _reused(method, output)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = open_parts(setup, output, progress, uses_sae=method.needs_statistics)
        method = with_draws(session, method)
        if output.dry_run:
            print_plan(session, [method])
            return
        runs = run_recorded(session, [method], reused, output, store, progress, stopped, go_on)
    if not runs:  # another rank has them
        return
    _print(runs, output)
    folders = [one.folder for one in runs]
    require_tracked(folders)
    print_where(folders, store, output, compare_commands(store, folders))


def _stopped(output: Resumable) -> list[RunFolder]:
    """The folders of the runs to go on with; none where they are new."""
    if output.resume is None:
        return []
    if n_ranks() > 1:
        raise UsageError(
            "--resume is work for one process, and runs of several ranks keep nothing to go on "
            "from: leave out torchrun or --resume"
        )
    return find_stopped(output.resume, output.dump_to)


def _reused(method: Method, output: Output) -> dict[str, Reused]:
    """The lookup that the method's settings name, read before anything heavy loads."""
    source = method.lookup
    if not source:
        return {}
    where = (output.tracking_uri, output.dump_to)
    text = from_lead("lookup", lambda: read_reused(source, *where).to_json())
    return {source: Reused.from_json(text)}


def _print(runs: list[Finished], output: Output) -> None:
    """The summary and the extreme classes of the most selective one; for machines, all classes of
    all; for documents, the summary and all classes."""
    if output.format in ("csv", "json"):
        console.show(classes_of(runs), output.format)
        return
    if output.format != "table":
        console.show_all([summary_of(runs), classes_of(runs)], output.format)
        return
    console.show(summary_of(runs))
    console.stdout().print()
    console.show(extremes_of(runs))
