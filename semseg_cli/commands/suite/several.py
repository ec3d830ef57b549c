"""A suite of several autoencoders, or layers: each one's claims, and all of them side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from semseg_cli.commands.next_steps import print_where
from semseg_cli.commands.opening import judge, open_store, tell_of_demo, tell_plan
from semseg_cli.commands.recording import (
    Planned,
    meta_of,
    recorded,
    require_tracked,
    settings_of,
)
from semseg_cli.commands.suite.steps import choose, lookup_of, run_group, upload_rest
from semseg_cli.commands.suite.work import (
    LATER,
    Work,
    datasets_of_suite,
    finished_runs,
    lookup_in,
    make_work,
    meta_of_suite,
    missing,
    names_of,
)
from semseg_cli.commands.suite.work import TAG as SUITE_TAG
from semseg_cli.errors import NoLatents, SemsegError, UsageError
from semseg_cli.experiment.estimate import Plan, make_plan, tails_of
from semseg_cli.experiment.pairing import open_pairs
from semseg_cli.experiment.samples import image_groups, warn_of_seen
from semseg_cli.progress import Progress
from semseg_cli.runs.dictionaries import Dictionary, named, rank
from semseg_cli.runs.folder import (
    DICTIONARIES_FILE,
    METRICS_FILE,
    RANKED_FILE,
    SUITE_PAGE_FILE,
    RunFolder,
)
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.command_line import command_line
from semseg_cli.settings.intervening import COMMON_LENGTH
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Shown
from semseg_cli.settings.suite import NULL_SAES, Suite, SuiteSetup
from semseg_cli.show import console
from semseg_cli.show.dictionary_page import SideBySide, draw_ranking, ranking_page
from semseg_cli.show.dictionary_ranking import ranking_table, verdict
from semseg_cli.show.run_pictures import attempt
from semseg_cli.show.tables import render

TAG = "dictionaries"  # of all runs of several suites


@dataclass(frozen=True)
class Part:
    """The work of one autoencoder at a layer; `has_nulls`: that of the layer's null SAEs, too,
    which are in its shape."""

    name: str
    work: Work
    has_nulls: bool

    def methods(self, lookup: str) -> list[Method]:
        """Its own claims, then those of the null SAEs."""
        nulls = NULL_SAES if self.has_nulls else ()
        suite = self.work.suite
        return [suite.claims(lookup), *(suite.null_claims(control) for control in nulls)]


def run_several(base: SuiteSetup, suite: Suite, output: Shown) -> None:
    """Runs what is missing of every autoencoder's claims, then shows all side by side."""
    if suite.lookup is not None:
        raise UsageError("--lookup has the latents of one SAE: leave it out of a suite of several")
    if not suite.is_matched and suite.length != COMMON_LENGTH:
        raise UsageError("--length is given, but edits are not matched: see --match")
    store = open_store(output)
    tell_of_demo(base, output)
    with console.progress_bars(quiet=output.quiet) as progress:
        parts = _parts(base, suite, output, store, progress)
        if _tell_plan(parts, output):
            return
        found = _run_all(parts, progress)
        folder = _write(base, suite, parts, found, store)
    if store is not None:
        for part in parts:
            upload_rest(finished_runs(output.dump_to, part.work.key), store)
    _print(found, output)
    lines = [] if output.no_plots else [f"Page:    {folder.path / SUITE_PAGE_FILE}"]
    paths = [one.folder.path for one in found.ranking.dictionaries]
    lines.append(f"Compare: {command_line('compare', *paths)}")
    print_where([folder], store, output, lines)


def _parts(
    base: SuiteSetup, suite: Suite, output: Shown, store: str | None, progress: Progress
) -> list[Part]:
    """The work of every autoencoder; all runs have the tag of the whole."""
    pairs = open_pairs(base, progress)
    for pair in pairs:
        judge(pair.session)
    image_groups(pairs[0].session)
    warn_of_seen(pairs[0].session)
    works = [make_work(pair.session, suite, output, store, {}, progress) for pair in pairs]
    key = blake2b(" ".join(work.key for work in works).encode(), digest_size=6).hexdigest()
    tag = f"{TAG}={key}"
    tagged = [
        replace(work, output=replace(work.output, tags=(*work.output.tags, tag))) for work in works
    ]
    largest: dict[int, int] = {}
    for i, pair in enumerate(pairs):
        known = largest.setdefault(pair.layer, i)
        if pair.session.pipeline.sae.d_sae > pairs[known].session.pipeline.sae.d_sae:
            largest[pair.layer] = i
    return [
        Part(pair.name, work, largest[pair.layer] == i)
        for i, (pair, work) in enumerate(zip(pairs, tagged, strict=True))
    ]


def _tell_plan(parts: Sequence[Part], output: Shown) -> bool:
    """Says what is used where and what there is to do; whether that is all that was asked for."""
    lines, plans = [], list[Plan]()
    for part in parts:
        work, pipeline = part.work, part.work.session.pipeline
        left = _left(part)
        said = ", ".join(m.run_name(is_manual=False) for m in left) or "nothing"
        nulls = "; null SAEs in its shape" if part.has_nulls else ""
        lines.append(
            f"{part.name}: {pipeline.site} of layer {pipeline.layer}, {pipeline.sae.d_sae} "
            f"latents{nulls}; to run: {said}"
        )
        if left:
            choice = [] if lookup_in(work, _done(work)) else [work.suite.choose()]
            n_null = work.n_null_tails(len(left))
            plans.append(make_plan(work.session, [*choice, *left], n_null))
    if plans:
        minutes = sum(plan.seconds for plan in plans) / 60
        lines.append(f"edited images: {tails_of(plans)}; estimated time: {minutes:.1f} minutes")
    tell_plan(lines, is_all=output.dry_run, quiet=output.quiet)
    return output.dry_run


def _done(work: Work) -> dict[str, RunFolder]:
    return finished_runs(work.output.dump_to, work.key)


def _left(part: Part) -> list[Method]:
    done = _done(part.work)
    lookup = lookup_in(part.work, done)
    reused = {lookup or LATER: lookup_of(lookup, None) if lookup else Reused("")}
    return missing(part.work, part.methods(lookup or LATER), reused, done)


def _run_all(parts: Sequence[Part], progress: Progress) -> SideBySide:
    """Runs what is missing, one autoencoder after the other; finished runs are on the disk."""
    found: list[Dictionary] = []
    lookups: dict[Path, RunFolder] = {}
    left_out: dict[str, str] = {}
    for part in parts:
        work = part.work
        try:
            lookup = lookup_in(work, _done(work)) or str(choose(work, progress).path)
        except NoLatents as error:
            left_out[part.name] = str(error)
            continue
        for method in part.methods(lookup):
            folder = _run(work, method, lookup, left_out, progress)
            if folder is not None:
                found.append(named(folder, part.name))
                lookups[folder.path] = RunFolder(Path(lookup))
    if not found:
        raise SemsegError(" ".join(left_out.values()))
    return SideBySide(rank(found), lookups, left_out)


def _run(
    work: Work, method: Method, lookup: str, left_out: dict[str, str], progress: Progress
) -> RunFolder | None:
    """The run of a method at the scale of claims, old or new; None where it has no latents."""
    reused = {lookup: lookup_of(lookup, work.output.tracking_uri)}
    (name,) = names_of(work, method, reused)
    if name in (done := _done(work)):
        return done[name]
    made, failed = run_group(work, [method], reused, progress)
    left_out |= failed
    return made[0] if made else None


def _write(
    base: SuiteSetup, suite: Suite, parts: Sequence[Part], found: SideBySide, store: str | None
) -> RunFolder:
    """The run of the whole: table, pictures, page."""
    output, session = parts[0].work.output, parts[0].work.session
    kept = [tag for tag in output.tags if not tag.startswith(f"{SUITE_TAG}=")]
    output = replace(output, tags=tuple(kept))
    digests = {"vit": session.pipeline.vit.digest, "head": session.pipeline.class_head.digest}
    shared = meta_of(output, datasets_of_suite(session), digests)
    planned = [Planned(meta_of_suite(output), settings_of(base, suite))]
    table = ranking_table(found.ranking)
    with recorded(planned, {**shared, "protocol": base.protocol}, output, store) as folders:
        folder = folders[0]
        numbers = {"n_dictionaries": len(table.rows), "n_first": len(found.ranking.first)}
        folder.write_json(METRICS_FILE, {key: float(n) for key, n in numbers.items()})
        folder.write(DICTIONARIES_FILE, csv_text(table.rows).encode())
        folder.write(RANKED_FILE, render(table, "json").encode())
        if not output.no_plots:
            with attempt("pictures"):
                draw_ranking(found.ranking, folder)
            with attempt(SUITE_PAGE_FILE):
                folder.write(SUITE_PAGE_FILE, ranking_page(found, folder).encode())
    require_tracked(folders)
    return folder


def _print(found: SideBySide, output: Shown) -> None:
    out = console.stdout()
    table = ranking_table(found.ranking)
    if output.format != "table":
        console.show(table, output.format)
        return
    console.show(replace(table, notes=()))
    out.print()
    out.print(verdict(found.ranking), style="bold", markup=False)
    notes = [*table.notes[1:], *found.missing]
    console.show(replace(table, title="", columns=(), rows=(), notes=tuple(notes)))
    for shown in found.group_tables():
        out.print()
        console.show(shown)
