"""`doctor` on whole and on deliberately wrong worlds: each mistake has its row, advice and code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from terminal import Done, Terminal, options
from worlds import (
    KNOWN_D,
    PLANTED,
    World,
    backbone,
    known_head,
    known_sae,
    make_head,
    make_known_vit,
    make_known_world,
    make_sae,
)

from semseg_cli.commands.doctor import CHECKS, check_parts, check_surroundings
from semseg_cli.commands.doctor.command import Check, run_checks
from semseg_cli.commands.doctor.findings import (
    Finding,
    NotApplicableError,
    is_fit,
    to_table,
)
from semseg_cli.commands.doctor.patient import Patient
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.sae_fit import (
    MEASURED,
    NONE,
    OWN,
    Choice,
    advise,
    measure_fit,
    scaling,
)
from semseg_cli.experiment.session import open_session
from semseg_cli.models import sae as saes
from semseg_cli.models.head import save_head
from semseg_cli.models.residual_cache import HEADER_BYTES
from semseg_cli.models.sae.trained_at import of_hook
from semseg_cli.progress import silent
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.output import Checkup
from semseg_cli.show.tables import render

Rows = dict[str, dict[str, str]]

GOLDEN = """\
check             result  found
────────────────────────────────────────────────────────────────────────────────
options           pass    all inputs are named
device            pass    cpu, float32
head              pass    reads width 16, knows 5 classes
dataset           pass    ade20k, layout ade20k
evaluation split  pass    validation, 3 images with masks
lookup split      pass    training, 4 images with masks
classes           pass    5: wall, building, sky, ...
ViT               pass    dinov2, 2 layers, width 16
SAE               pass    saev, width 16, 15 latents, Threshold
layer             pass    1 of 2, counted from 1; resid-post
tokens            pass    image 224 x 224, patches 4 x 4 of 56 px, 1 prefix
                          tokens
head width        pass    16, as the ViT
SAE width         pass    16, as the ViT
SAE layer         pass    the file does not say
statistics        pass    to be computed: sparsity, top_values
residuals         pass    64 patches, 0.00% of the values clamped
site              pass    resid-post
b_dec             pass    not subtracted
"""


def doctor(terminal: Terminal, world: World, *flags: str, **changes: str) -> tuple[Done, Rows]:
    """The command on a world, with a cache of its own, and its rows by check."""
    cache = str(terminal.folder / "cache")
    named = {"max_freq": "", "cache_dir": cache, "device": "cpu", "format": "json", **changes}
    done = terminal.type("doctor", *options(world, **named), *flags)
    is_json = named["format"] == "json"
    rows = json.loads(done.out)["rows"] if is_json and done.out else []
    return done, {row["check"]: row for row in rows}


def statuses(rows: Rows, status: str) -> set[str]:
    return {name for name, row in rows.items() if row["status"] == status}


@pytest.fixture
def own_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A known world to break."""
    return make_known_world(tmp_path_factory.mktemp("own"))


def test_a_world_that_fits_passes_every_check(known_world: World, terminal: Terminal) -> None:
    done, rows = doctor(terminal, known_world)
    assert done.code == 0
    assert set(rows) == {check.name for check in CHECKS}
    assert statuses(rows, "pass") == set(rows)
    assert "explained variance 1.000" in rows["reconstruction"]["found"]
    assert "L0 1.0" in rows["sparsity"]["found"]
    assert (
        "mIoU 1.000 (mean over the 4 classes there) on 48 clean patches"
        in rows["head accuracy"]["found"]
    )
    assert not (terminal.folder / "semseg-runs").exists()


def test_the_table_fits_80_columns(known_world: World, terminal: Terminal) -> None:
    done, _ = doctor(terminal, known_world, format="table")
    title, rest = done.out.split("\n", 1)
    assert title == "Doctor: 29 pass"
    assert rest.startswith(GOLDEN)
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_check_leaves_nothing_where_it_is_made_and_says_on_how_few_images(
    known_world: World, terminal: Terminal
) -> None:
    (terminal.folder / "mlflow.db").unlink()
    done, rows = doctor(terminal, known_world, "--probe-images", "2")
    assert [path.name for path in terminal.folder.iterdir()] == ["cache"]  # which it was given
    assert rows["tracking store"]["found"].startswith("new file")
    assert "2 of the 3 of the evaluation split, 2 of the 4 of the lookup split" in " ".join(
        done.out.split()
    )


def folders_below(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_dir())


def test_kept_activations_are_known_and_none_are_added(
    known_world: World, terminal: Terminal
) -> None:
    passes = "passes up to the layer, at most 18 after"
    assert f" 7 {passes}" in doctor(terminal, known_world)[1]["time"]["found"]
    assert f" 15 {passes}" in doctor(terminal, known_world, "--no-cache")[1]["time"]["found"]
    cache = terminal.folder / "cache"
    assert "activations" not in folders_below(cache)
    named = options(known_world, cache_dir=str(cache))
    assert terminal.type("auto-feat", *named, "--no-track", "--no-plots").code == 0
    before = folders_below(cache / "activations")
    assert before
    found = doctor(terminal, known_world)[1]["time"]["found"]
    assert f" 0 {passes}" in found
    assert folders_below(cache / "activations") == before


def test_the_disk_is_asked_for_what_is_kept(
    known_world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def enough(_folder: Path, n_bytes: int) -> int:
        asked.append(n_bytes)
        return 2**40

    monkeypatch.setattr(check_surroundings, "_require_room", enough)
    given = {"act_mean": "", "act_norm": ""}  # to be computed: needs residuals more than once
    n_image = 17 * 16 * 4 + 16 * 16 + HEADER_BYTES  # tokens of width 16, labels and shares
    _, rows = doctor(terminal, known_world, **given)
    assert rows["disk"]["status"] == "pass"
    n_scratch = 4 * 16 * 16 * 4
    _, rows = doctor(terminal, known_world, "--no-cache", **given)
    assert rows["disk"]["status"] == "pass"
    _, rows = doctor(terminal, known_world, cache_limit="0.000001", **given)
    assert rows["disk"]["status"] == "warn"
    assert "more, --cache-limit is 0.00102 MiB" in rows["disk"]["advice"]
    assert asked[1::2] == [7 * n_image, n_scratch, n_scratch]
    doctor(terminal, known_world, "--no-cache")
    assert asked[-1] == 0


def test_a_reconstruction_that_loses_a_class_is_told(own_world: World, terminal: Terminal) -> None:
    assert doctor(terminal, own_world)[1]["splice"]["status"] == "pass"
    sae = known_sae()
    sae.W_dec[PLANTED[3]] = 0
    saes.save(own_world.folder / "sae.pt", sae)
    done, rows = doctor(terminal, own_world)
    assert done.code == 0
    assert rows["splice"]["status"] == "warn"
    assert "It loses sky: no latent can explain them." in rows["splice"]["advice"]
    assert doctor(terminal, own_world, seg_ckpt="")[1]["splice"]["status"] == "skipped"


def test_a_wrong_layer_is_named_with_the_right_one(own_world: World, terminal: Terminal) -> None:
    vit = make_known_vit()
    with torch.no_grad():
        vit.encoder.layer[1].layer_scale1.lambda1.fill_(3.0)
        vit.encoder.layer[1].layer_scale2.lambda1.fill_(5.0)
    vit.save_pretrained(own_world.folder / "vit")
    done, rows = doctor(terminal, own_world, vit_layer="2")
    assert done.code == 0
    assert rows["reconstruction"]["status"] == "warn"
    assert "Likely wrong: --vit-layer; the SAE at layer 1" in rows["reconstruction"]["advice"]
    done, rows = doctor(terminal, own_world, vit_layer="1", seg_ckpt="")
    assert done.code == 0
    assert rows["reconstruction"]["status"] == "pass"


def test_groups_that_names_show_are_told_unless_they_are_known() -> None:
    names = [f"{drive}_{number:03}" for drive in ("0001TP", "Seq05VD") for number in range(5)]
    found = check_parts._grouped("said", names, None)
    assert found.status == "warn"
    assert "--group-by '^[^_-]+'" in found.advice
    assert check_parts._grouped("said", names, "^[^_-]+").found == "said, in 2 groups"
    assert check_parts._grouped("said", ["ADE_1", "ADE_2", "ADE_3"], None).status == "pass"


def test_a_layer_that_does_not_exist_fails(known_world: World, terminal: Terminal) -> None:
    done, rows = doctor(terminal, known_world, vit_layer="3")
    assert done.code == 1
    assert "layers 1 to 2; check --vit-layer" in rows["layer"]["advice"]
    assert rows["residuals"]["status"] == rows["time"]["status"] == "skipped"
    assert rows["residuals"]["found"] == "needs layer"
    assert rows["head accuracy"]["status"] == "pass"


def test_a_wrong_mean_is_named(known_world: World, terminal: Terminal) -> None:
    (terminal.folder / "mean.json").write_text(json.dumps({"act_mean": [9.0] * KNOWN_D}))
    done, rows = doctor(terminal, known_world, act_mean="mean.json")
    assert done.code == 1
    assert rows["SAE input"]["status"] == "warn"
    assert "check --stats, --act-mean, --act-norm and --vit-layer" in rows["SAE input"]["advice"]
    assert rows["reconstruction"]["status"] == "fail"
    assert "(--act-mean, --act-norm)" in rows["reconstruction"]["advice"]
    assert "--vit-layer" not in rows["reconstruction"]["advice"]


def test_a_wrong_norm_is_named(known_world: World, terminal: Terminal) -> None:
    done, rows = doctor(terminal, known_world, act_norm="0.1")
    assert done.code == 0  # this SAE is linear: it still reconstructs
    assert statuses(rows, "warn") == {"SAE input"}
    done, rows = doctor(terminal, known_world, act_norm="100000")
    assert done.code == 1
    assert "No latent fires" in rows["sparsity"]["advice"]


def test_an_unrelated_sae_is_named(tiny_world: World, terminal: Terminal) -> None:
    done, rows = doctor(terminal, tiny_world)
    assert done.code == 0
    assert rows["reconstruction"]["status"] == "warn"
    assert "--sae-ckpt is likely wrong" in rows["reconstruction"]["advice"]


def test_a_head_with_its_classes_mixed_up_warns(own_world: World, terminal: Terminal) -> None:
    head = known_head()
    for parameter in head.parameters():
        parameter.data[1:] = parameter.data[1:].roll(1, dims=0)
    save_head(own_world.folder / "head.pt", head)
    done, rows = doctor(terminal, own_world)
    assert done.code == 0
    assert statuses(rows, "warn") == {"head accuracy"}
    assert "accuracy 0.000" in rows["head accuracy"]["found"]
    assert "class ids" in rows["head accuracy"]["advice"]


@pytest.mark.parametrize(
    ("d_model", "n_classes", "row"), [(KNOWN_D, 7, "classes"), (24, 5, "head width")]
)
def test_a_head_of_another_model_or_dataset_fails(
    d_model: int, n_classes: int, row: str, own_world: World, terminal: Terminal
) -> None:
    save_head(own_world.folder / "head.pt", make_head(d_model, n_classes))
    done, rows = doctor(terminal, own_world)
    assert done.code == 1
    assert statuses(rows, "fail") == {row}
    assert "check --seg-ckpt" in rows[row]["advice"]
    assert rows["head accuracy"]["found"] == f"needs {row}"


def test_an_sae_of_another_width_fails(own_world: World, terminal: Terminal) -> None:
    saes.save(own_world.folder / "sae.pt", make_sae(24, 40))
    done, rows = doctor(terminal, own_world, act_mean="", act_norm="")
    assert done.code == 1
    assert statuses(rows, "fail") == {"SAE width"}
    assert rows["SAE width"]["found"] == "SAE 24, ViT 16"


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("layer", {"vit_layer": 3}),
        ("classes", {"classes": ("unicorn",)}),
        ("classes", {"seg_ckpt": "head.pt"}),
        ("tokens", {"patch_size_px": 5}),
    ],
)
def test_what_a_run_refuses_fails_in_the_same_words(
    known_world: World, tmp_path: Path, row: str, changes: dict[str, Any]
) -> None:
    if "seg_ckpt" in changes:
        changes = {"seg_ckpt": str(tmp_path / "head.pt")}
        save_head(tmp_path / "head.pt", make_head(KNOWN_D, 3))
    setup = known_world.setup(**changes)
    until = [check.name for check in CHECKS].index("SAE width")
    found = run_checks(CHECKS[:until], Patient(setup, Checkup(), silent))
    advice = next(finding.advice for finding in found if finding.check == row)
    with pytest.raises(SemsegError, match=re.escape(advice)):
        open_session(setup)
    assert advice


def test_every_check_runs_though_everything_is_wrong(
    known_world: World, terminal: Terminal
) -> None:
    (terminal.folder / "file").write_text("")
    wrong = {name: "/nowhere" for name in ("vit_ckpt", "sae_ckpt", "seg_ckpt", "imgs_root")}
    done, rows = doctor(
        terminal, known_world, **wrong, dump_to="file", tracking_uri="sqlite:////no/where.db"
    )
    assert done.code == 1
    inputs = {"head", "dataset", "ViT", "SAE"}
    assert statuses(rows, "fail") == inputs | {"run folder", "tracking store"}
    assert statuses(rows, "pass") == {"options", "device", "cache folder"}
    assert all(rows[name]["advice"].count(":") >= 1 for name in statuses(rows, "fail"))
    assert "Traceback" not in done.err


def test_without_a_head_everything_else_is_checked(known_world: World, terminal: Terminal) -> None:
    done, rows = doctor(terminal, known_world, seg_ckpt="")
    assert done.code == 0
    assert statuses(rows, "warn") == {"options"}
    assert rows["head"]["found"] == "needs --seg-ckpt"
    assert rows["time"]["found"].startswith("lookup: about")


def test_missing_options_fail_and_the_rest_is_checked(
    known_world: World, terminal: Terminal
) -> None:
    done, rows = doctor(terminal, known_world, sae_ckpt="")
    assert done.code == 1
    assert statuses(rows, "fail") == {"options"}
    assert rows["SAE"]["found"] == "needs --sae-ckpt"
    assert rows["head accuracy"]["status"] == "pass"


def test_an_ambiguous_b_dec_is_measured(own_world: World, terminal: Terminal) -> None:
    path = own_world.folder / "sae.pt"
    sae = saes.load(path)
    header = {"schema": 1, "cls": "Relu", "cfg": {"d_vit": KNOWN_D, "exp_factor": 1}}
    header["cfg"] |= {"d_model": KNOWN_D, "d_sae": sae.d_sae}  # type: ignore[operator]
    state = {name: getattr(sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    state["b_dec"] = torch.linspace(-1, 1, KNOWN_D)
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state, file)
    _, rows = doctor(terminal, own_world)
    assert rows["b_dec"]["found"].startswith("measured: ")
    assert "--sae-centre-input yes or no" in rows["b_dec"]["advice"]


def test_a_following_run_keeps_the_findings(known_world: World, terminal: Terminal) -> None:
    cache = str(terminal.folder / "cache")
    done, _ = doctor(terminal, known_world)
    assert done.code == 0
    for command, kept in (("auto-feat", True), ("lookup", False)):  # of other images, no head
        changes = {"min_patches": ""} if command == "lookup" else {}
        args = options(known_world, cache_dir=cache, **changes)
        assert terminal.type(command, *args, "--no-plots", "--no-track").code == 0
        assert (terminal.runs()[-1] / "doctor.json").is_file() is kept
    found = json.loads((terminal.runs()[0] / "doctor.json").read_text())
    assert found["is_fit"] is True
    assert {one["check"] for one in found["checks"]} == {check.name for check in CHECKS}
    values = {one["check"]: one["values"] for one in found["checks"]}
    assert values["reconstruction"]["explained_variance"] == pytest.approx(1.0, abs=1e-3)


def test_a_run_with_other_inputs_has_no_findings(known_world: World, terminal: Terminal) -> None:
    cache = str(terminal.folder / "cache")
    doctor(terminal, known_world)
    args = options(known_world, cache_dir=cache, act_norm="1.5")
    assert terminal.type("auto-feat", *args, "--no-plots", "--no-track").code == 0
    assert not (terminal.runs()[0] / "doctor.json").exists()


@pytest.mark.parametrize("less", [{"seg_ckpt": ""}, {"act_norm": ""}])
def test_findings_on_less_than_a_run_uses_are_not_of_that_run(
    known_world: World, terminal: Terminal, less: dict[str, str]
) -> None:
    cache = str(terminal.folder / "cache")
    doctor(terminal, known_world, cache_dir=cache, **less)
    args = options(known_world, cache_dir=cache)
    assert terminal.type("auto-feat", *args, "--no-plots", "--no-track").code == 0
    assert not (terminal.runs()[0] / "doctor.json").exists()


@pytest.mark.slow
def test_the_demo_world_is_fit_and_drawn_once(terminal: Terminal, demo_cache: Path) -> None:
    args = ["doctor", "--preset", "demo", "--cache-dir", str(demo_cache), "--format", "json"]
    assert terminal.type(*args).code == 0  # draws the scenes
    drawn = {path: path.stat().st_mtime_ns for path in demo_cache.rglob("*.jpg")}
    assert terminal.type(*args).code == 0
    assert drawn == {path: path.stat().st_mtime_ns for path in demo_cache.rglob("*.jpg")} != {}
    done = terminal.type(*args, "--vit-layer", "2")
    assert done.code == 1
    assert "--vit-layer 3" in done.out


@pytest.mark.parametrize(
    ("hook", "status", "words"),
    [
        (None, "pass", ""),
        ("blocks.10.hook_resid_post", "pass", ""),
        ("blocks.11.hook_resid_pre", "pass", ""),
        ("vision_model.encoder.layers.10", "pass", ""),
        (
            "blocks.5.hook_resid_post",
            "warn",
            "(resid-post of layer 6); your options win",
        ),
        ("blocks.10.hook_mlp_out", "pass", ""),
        ("blocks.8.hook_mlp_out", "warn", "your options win"),
        ("blocks.10.mlp.hook_post", "warn", "none of the sites"),
    ],
)
def test_the_hook_in_the_file_is_compared_with_the_layer(
    hook: str | None, status: str, words: str, tmp_path: Path
) -> None:
    setup = Setup(vit_layer=11, cache_dir=tmp_path)
    patient = Patient(setup, Checkup(), silent)
    patient.sae = make_sae()
    patient.sae.trained_at = of_hook(hook)
    patient.vit = backbone()
    found = check_parts.sae_layer(patient)
    assert found.status == status
    assert words in found.advice


# --- checks as data ---------------------------------------------------------------------------


def _raises(error: Exception) -> Any:
    def check(_subject: None) -> Finding:
        raise error

    return check


def test_checks_run_on_after_failures() -> None:
    good = Finding("pass", "fine")
    checks = [
        Check("a", _raises(SemsegError("A is bad: mend it."))),
        Check("b", lambda _: good, ("a",)),
        Check("c", lambda _: good, ("b",)),
        Check("d", lambda _: good),
        Check("e", _raises(NotApplicableError("--this"))),
    ]
    found = run_checks(checks, Patient(Setup(), Checkup(), silent))
    assert [(f.check, f.status, f.found) for f in found] == [
        ("a", "fail", "see below"),
        ("b", "skipped", "needs a"),
        ("c", "skipped", "needs b"),
        ("d", "pass", "fine"),
        ("e", "skipped", "needs --this"),
    ]
    assert not is_fit(found)
    assert is_fit(found[1:])
    text = render(to_table(found))
    assert text.startswith("Doctor: 1 pass, 1 fail, 3 skipped\n")
    assert text.endswith("fail: a. A is bad: mend it.\n")


def test_a_bug_in_a_check_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_checks([Check("a", _raises(ZeroDivisionError()))], Patient(Setup(), Checkup(), silent))


def test_needs_name_earlier_checks() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for i, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:i])


@pytest.mark.parametrize(
    ("used", "best", "words"),
    [
        (Choice(2, OWN, 0.9), Choice(2, OWN, 0.9), "$"),
        (Choice(2, OWN, 0.1), Choice(2, OWN, 0.1), "No other layer, .*--sae-ckpt is likely wrong"),
        (Choice(2, OWN, -9.0), Choice(3, OWN, 0.9), "wrong: --vit-layer;.*0.900"),
        (Choice(2, OWN, 0.2), Choice(2, MEASURED, 0.9), "wrong: the input scaling.*measured"),
        (Choice(2, MEASURED, 0.2), Choice(2, NONE, 0.9), "try --act-mean 0 --act-norm 1"),
        (Choice(2, OWN, 0.2), Choice(1, MEASURED, 0.9), "--vit-layer 1 and give those"),
        (
            Choice(3, OWN, 0.2),
            Choice(3, OWN, 0.9, "norm-out"),
            "wrong: --vit-site;.*try --vit-site",
        ),
    ],
)
def test_advice_names_the_option(used: Choice, best: Choice, words: str) -> None:
    assert re.match(f".*{words}" if words != "$" else "$", advise(used, best))


def test_the_fit_is_that_of_the_plain_formulas() -> None:
    sae = make_sae().scaled(torch.ones(24) * 0.1, 1.5)
    x = torch.randn(50, 24)
    fit, z = measure_fit(sae, x), sae.scale(x)
    error = (sae.decode(sae.encode(z)) - z).square().sum()
    assert fit.normalised_mse == pytest.approx(float(error / z.square().sum()), rel=1e-5)
    variance = z.var(dim=0, correction=0).sum() * len(z)
    assert fit.explained_variance == pytest.approx(float(1 - error / variance), rel=1e-5)
    assert fit.l0 == pytest.approx(float((sae.encode(z) > 0).sum(dim=1).double().mean()))
    assert fit.dead_share == pytest.approx(
        float((sae.encode(z) > 0).any(dim=0).logical_not().double().mean())
    )


def test_a_tried_scaling_is_taken_back_after_an_error() -> None:
    sae = make_sae().scaled(torch.ones(24), 3.0)

    def fail() -> None:
        with scaling(sae, NONE, torch.randn(5, 24)):
            assert float(sae.act_norm) == 1.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert float(sae.act_norm) == 3.0
    assert bool((sae.act_mean == 1).all())
