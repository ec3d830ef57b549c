"""A suite, from its settings to the last printed line."""

from collections.abc import Mapping
from dataclasses import replace

from semseg_cli.commands.next_steps import print_where
from semseg_cli.commands.opening import open_parts, open_store, plan_lines, tell_plan
from semseg_cli.commands.recording import (
    Planned,
    recorded,
    require_tracked,
    settings_of,
    shared_meta,
)
from semseg_cli.commands.suite.several import run_several
from semseg_cli.commands.suite.steps import choose, impossible, lookup_of, run_group, upload_rest
from semseg_cli.commands.suite.work import (
    LATER,
    TAG,
    Work,
    datasets_of_suite,
    finished_runs,
    lookup_in,
    make_work,
    meta_of_suite,
    missing,
    names_of,
)
from semseg_cli.errors import UsageError
from semseg_cli.experiment.pairing import is_one, setup_of_one
from semseg_cli.experiment.samples import image_groups, warn_of_seen
from semseg_cli.progress import Progress
from semseg_cli.runs.folder import (
    CALIBRATION_FILE,
    CARD_FILE,
    DICTIONARIES_FILE,
    METRICS_FILE,
    SUITE_FILE,
    SUITE_PAGE_FILE,
    RunFolder,
)
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.command_line import command_line
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.intervening import COMMON_LENGTH
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Shown
from semseg_cli.settings.suite import Suite, SuiteSetup
from semseg_cli.show import console
from semseg_cli.show.dictionary_ranking import ranking_table
from semseg_cli.show.run_pictures import attempt
from semseg_cli.show.suite_page import card, draw_suite, suite_page
from semseg_cli.show.suite_tables import (
    Finished,
    class_table,
    group_tables,
    headline,
    suite_table,
)
from semseg_cli.tracking.store_address import store_option


def run_suite(base: SuiteSetup, suite: Suite, output: Shown) -> None:
    """Runs what is missing of a suite, then shows all of it; several SAEs are put side by side."""
    if base.protocol != "class":
        raise UsageError(
            f"suite has no --protocol {base.protocol}: claims are about one class's latent at a "
            "time, which the class protocol sets; leave it out"
        )
    if suite.max_group and (suite.lookup is not None or not suite.tries_edits):
        raise UsageError(
            "--max-group is given: groups grow by what edits do while latents are chosen, give "
            "--select cause or causal, and no --lookup"
        )
    if is_one(base):
        if suite.match is not None or suite.length != COMMON_LENGTH:
            raise UsageError(
                "--match and --length are for a suite of several SAEs: leave them out, the "
                "controls of one are as long as its own edits"
            )
        _run_one(suite.on(setup_of_one(base)), suite, output)
    else:
        run_several(suite.on(base), suite, output)


def _run_one(setup: Setup, suite: Suite, output: Shown) -> None:
    store = open_store(output)
    with console.progress_bars(quiet=output.quiet) as progress:
        work = _work(setup, suite, output, store, progress)
        done = finished_runs(output.dump_to, work.key)
        if _tell_plan(work, done):
            return
        finished = _run_all(work, done, progress)
        folder = _write_suite(work, finished)
    if store is not None:
        upload_rest(finished_runs(output.dump_to, work.key), store)
    _print(finished, output)
    lines = [f"Page:    {folder.path / SUITE_PAGE_FILE}"] if not output.no_plots else []
    lines += [f"Card:    {folder.path / CARD_FILE}"]
    print_where([folder], store, output, [*lines, *_compare(work)])


def _compare(work: Work) -> list[str]:
    """The command that puts the runs of the suite side by side."""
    if work.store is None:
        return []
    chosen = f"tags.{TAG} = '{work.key}'"
    return [f"Compare: {command_line('compare', '--filter', chosen, *store_option(work.store))}"]


def _work(setup: Setup, suite: Suite, output: Shown, store: str | None, progress: Progress) -> Work:
    given = {suite.lookup: lookup_of(suite.lookup, output.tracking_uri)} if suite.lookup else {}
    session = open_parts(setup, output, progress)
    image_groups(session)
    warn_of_seen(session)
    return make_work(session, suite, output, store, given, progress)


def _tell_plan(work: Work, done: Mapping[str, RunFolder]) -> bool:
    """Says what the suite is going to do; whether that is all that was asked for."""
    left = _left(work, done)
    n_saes = sum(m.command == "auto-feat" for m in left)
    choice = [work.suite.choose()] if lookup_in(work, done) is None else []
    methods = [*choice, *left]
    nulls = work.nulls
    lines = [f"Suite {work.key}: {len(done)} runs are there; to run: {_names(left) or 'nothing'}"]
    if methods:
        lines += [
            f"nulls: {nulls.peers} peers on {nulls.peer_images or 'all'} images; "
            f"{nulls.matched} matched peers per class on {nulls.matched_images} images each",
            *plan_lines(work.session, methods, work.n_null_tails(n_saes)),
        ]
    tell_plan(lines, is_all=work.output.dry_run, quiet=work.output.quiet)
    return work.output.dry_run


def _left(work: Work, done: Mapping[str, RunFolder]) -> list[Method]:
    """The methods that are still to run, as far as it is known before latents are chosen."""
    lookup = lookup_in(work, done)
    reused = {LATER: Reused("")} if lookup is None else _reused(work, lookup)
    groups = work.suite.groups(lookup or LATER)
    every = [method for group in groups.values() for method in group]
    left_out = {} if lookup is None else impossible(work, every, reused)
    return missing(work, [m for m in every if m.command not in left_out], reused, done)


def _reused(work: Work, lookup: str) -> Mapping[str, Reused]:
    return work.given or {lookup: lookup_of(lookup, work.output.tracking_uri)}


def _names(methods: list[Method]) -> str:
    return ", ".join(dict.fromkeys(method.run_name(is_manual=False) for method in methods))


def _run_all(work: Work, done: Mapping[str, RunFolder], progress: Progress) -> Finished:
    """Runs what is missing, group by group; finished runs are on the disk whatever comes next."""
    lookup = lookup_in(work, done) or str(choose(work, progress).path)
    reused = _reused(work, lookup)
    groups = work.suite.groups(lookup)
    left_out = impossible(work, [m for group in groups.values() for m in group], reused)
    found = dict(done)
    order: list[str] = []
    for group in groups.values():
        methods = [m for m in group if m.command not in left_out]
        order += [name for m in methods for name in names_of(work, m, reused)]
        if wanted := missing(work, methods, reused, found):
            folders, failed = run_group(work, wanted, reused, progress)
            found |= {folder.meta["run_name"]: folder for folder in folders}
            left_out |= failed
    own = next(
        name
        for name in order
        if name in found
        and found[name].meta["command"] == "auto-feat"
        and found[name].report().intervention_scale == work.suite.at
    )
    asked = {"--peers": work.nulls.peers, "--matched-peers": work.nulls.matched}
    runs = {name: found[name] for name in order if name in found}
    chosen = finished_runs(work.output.dump_to, work.key).get(f"lookup {work.suite.select}")
    return Finished(runs, own, left_out, asked, chosen)


def _write_suite(work: Work, finished: Finished) -> RunFolder:
    """The suite's own run: table, classes, page and card."""
    session = work.session
    shared = shared_meta(session, work.output, datasets_of_suite(session))
    shared["protocol"] = work.setup.protocol
    planned = [Planned(meta_of_suite(work.output), settings_of(work.setup, work.suite))]
    with recorded(planned, shared, work.output, work.store) as folders:
        folder = folders[0]
        numbers = {key: finished.numbers[key] for key in ("n_causal", "n_judged")}
        folder.write_json(METRICS_FILE, numbers)
        folder.write(SUITE_FILE, csv_text(suite_table(finished).rows).encode())
        claims = (finished.own_folder.path / CALIBRATION_FILE).read_bytes()
        folder.write(CALIBRATION_FILE, claims)
        folder.write(DICTIONARIES_FILE, csv_text(finished.ranking.rows).encode())
        folder.write(CARD_FILE, card(finished, work.key).encode())
        if not work.output.no_plots:
            with attempt("pictures"):
                draw_suite(finished, folder)
            with attempt(SUITE_PAGE_FILE):
                folder.write(SUITE_PAGE_FILE, suite_page(finished, folder).encode())
    require_tracked(folders)
    return folder


def _print(finished: Finished, output: Shown) -> None:
    out = console.stdout()
    table = suite_table(finished, is_wide=out.width >= 100)
    if output.format != "table":
        console.show(table, output.format)
        return
    console.show(replace(table, notes=()))
    out.print()
    out.print(headline(finished), style="bold", markup=False)
    console.show(replace(table, title="", columns=(), notes=table.notes[1:], rows=()))
    out.print()
    console.show(class_table(finished), precision=2)
    out.print()
    console.show(ranking_table(finished.ranking))
    for shown in group_tables(finished):
        out.print()
        console.show(shown)
