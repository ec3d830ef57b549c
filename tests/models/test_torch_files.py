"""PyTorch files are read as `torch.load` reads them, and nothing that they name is ever run."""

import contextlib
import copyreg
import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.models.torch_files import (
    BadPickle,
    Name,
    Record,
    is_module,
    is_small,
    module_tensors,
    read_torch_file,
)
from semseg_cli.models.torch_files.names import FUNCTIONS
from semseg_cli.models.weight_files import read_state

MODULE = "semseg_trap"  # importing it, or calling its functions, writes a file
TRAP = """
from pathlib import Path
def spring(*args, **kwargs):
    Path(__file__).with_name("sprung").touch()
    return spring
class Trap:
    def __init__(self, *args, **kwargs): spring()
    def __new__(cls, *args, **kwargs): spring(); return object.__new__(cls)
    def __setstate__(self, state): spring()
class Quiet:
    pass
"""


@pytest.fixture
def sprung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the trap was imported and called since; `armed` pickles name it."""
    (tmp_path / f"{MODULE}.py").write_text(TRAP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return lambda: (tmp_path / "sprung").exists()


# --- hostile programs -----------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(name: str, module: str = MODULE) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(name: str, module: str = MODULE) -> bytes:
    return text(module) + text(name) + b"\x93"


SPRING, EMPTY_CALL = named("spring"), b")R"
STORAGE = b"(" + text("storage") + named("FloatStorage", "torch") + text("0") + text("cpu")
REBUILD = named("_rebuild_tensor_v2", "torch._utils")

RUNS: dict[str, bytes] = {
    "REDUCE": SPRING + EMPTY_CALL + b".",
    "REDUCE by STACK_GLOBAL": b"\x80\x04" + stacked("spring") + EMPTY_CALL + b".",
    "a dotted name": b"\x80\x04" + stacked("spring.__call__") + EMPTY_CALL + b".",
    "REDUCE of eval": named("eval", "builtins")
    + b"("
    + text(f"__import__('{MODULE}').spring()")
    + b"tR.",
    "nested REDUCE: getattr of an import": named("getattr", "builtins")
    + b"(" + named("__import__", "builtins") + b"(" + text(MODULE) + b"tR" + text("spring") + b"tR"
    + EMPTY_CALL + b".",
    "INST": b"(i" + f"{MODULE}\nTrap\n".encode() + b".",
    "OBJ": b"(" + named("Trap") + b"o.",
    "NEWOBJ": b"\x80\x02" + named("Trap") + b")\x81.",
    "NEWOBJ_EX": b"\x80\x04" + named("Trap") + b")}\x92.",
    "BUILD calls __setstate__": b"\x80\x02" + named("Quiet")
    + b")\x81}" + text("__setstate__") + SPRING + b"sb}b.",
    "copyreg makes an object": named("__newobj__", "copyreg") + b"(" + named("Trap") + b"tR.",
    "copyreg reconstructs": named("_reconstructor", "copyreg")
    + b"(" + named("Trap") + named("Trap") + b"NtR.",
    "EXT code": b"\x80\x02\x82\xf0" + EMPTY_CALL + b".",
    "functools.partial": named("partial", "functools") + b"(" + SPRING + b"tR" + EMPTY_CALL + b".",
    "map makes the call": named("list", "builtins")
    + b"(" + named("map", "builtins") + b"(" + SPRING + b"(K\x01ltRtR.",
    "the memo swaps a name": named("OrderedDict", "collections") + b"q\x000" + SPRING
    + b"q\x000h\x00" + EMPTY_CALL + b".",
    "DUP and POP": SPRING + b"2N0" + EMPTY_CALL + b".",
    "in an argument": named("OrderedDict", "collections")
    + b"(" + SPRING + EMPTY_CALL + b"0tR.",
    "in a dict": b"}" + text("W_enc") + SPRING + EMPTY_CALL + b"s.",
    "as a key": b"}" + named("str", "builtins") + b"(" + SPRING + EMPTY_CALL + b"tRNs.",
    "a pickle in a pickle": named("loads", "pickle")
    + b"(B" + struct.pack("<I", len(SPRING) + 3) + SPRING + b")R." + b"tR.",
}  # fmt: skip
"""Programs that spring the trap where Python's own unpickler runs them."""


@pytest.fixture
def registered() -> Any:
    copyreg.add_extension(MODULE, "spring", 0xF0)
    yield
    copyreg.remove_extension(MODULE, "spring", 0xF0)
    getattr(copyreg, "_extension_cache", {}).pop(0xF0, None)


def archived(program: bytes, **storages: bytes) -> bytes:
    """A program where `torch.save` puts its own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", data)
    return file.getvalue()


def legacy(program: bytes) -> bytes:
    """A program where older versions put it."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(one, 2) for one in head) + program + pickle.dumps([], 2)


def read(data: bytes) -> Any:
    return read_torch_file(io.BytesIO(data))


@pytest.mark.parametrize("name", RUNS)
def test_the_trap_springs_where_python_unpickles(
    sprung: Callable[[], bool], registered: None, name: str
) -> None:
    assert not sprung()
    with contextlib.suppress(Exception):  # what comes after the trap may fail
        pickle.loads(RUNS[name])
    assert sprung()


@pytest.mark.parametrize("wrap", [archived, legacy])
@pytest.mark.parametrize("name", RUNS)
def test_nothing_of_a_hostile_file_runs(
    sprung: Callable[[], bool], registered: None, name: str, wrap: Callable[[bytes], bytes]
) -> None:
    try:
        found = read(wrap(RUNS[name]))
    except BadPickle:
        found = None
    assert not sprung()
    assert MODULE not in sys.modules
    assert found is None or isinstance(found, Record | dict | list)


SAID: dict[str, tuple[bytes, str]] = {
    "a call": (RUNS["REDUCE"], f"holds a pickled {MODULE}.spring, not a state dict of tensors; "
               "nothing in it was run"),
    "os.system": (
        named("system", "os") + b"(" + text("true") + b"tR.", "holds a pickled os.system",
    ),
    "a nested call": (RUNS["nested REDUCE: getattr of an import"], r"getattr\(\.\.\.\)"),
    "a name": (SPRING + b".", f"holds a pickled {MODULE}.spring"),
    "in a dict": (RUNS["in a dict"], "other than a plain state dict"),
    "EXT code": (RUNS["EXT code"], "uses the instruction EXT1"),
    "EXT4 code": (b"\x84\x01\x00\x00\x00.", "uses the instruction EXT4"),
    "a buffer from outside": (b"\x80\x05\x97.", "uses the instruction NEXT_BUFFER"),
    "state twice": (RUNS["BUILD calls __setstate__"], "gives an object its state twice"),
    "a call of a number": (b"K\x01)R.", "calls a value of type int"),
    "a call of a tensor's dtype": (
        named("float32", "torch") + EMPTY_CALL + b".", "calls a value of type dtype",
    ),
    "a call without arguments": (SPRING + b"NR.", "with other than a tuple"),
    "a name of numbers": (b"\x80\x04K\x01K\x02\x93.", "other than two strings"),
    "a name that is no name": (
        b"\x80\x04" + stacked("spring\x1b[2J") + EMPTY_CALL + b".", "by what is no name",
    ),
    "a number of many digits": (b"\x8b\x00\x01\x00\x00" + b"\x7f" * 256 + b".", "300 digits"),
    "the memo is empty": (b"h\x05.", "refers to a value 5 that it has not made"),
    "the stack is empty": (b"R.", "takes more from its stack"),
    "no mark": (b"t.", "is damaged"),
    "no end": (b"N", "is damaged"),
    "an unknown instruction": (b"\xff.", "is damaged"),
    "a persistent id": (b"Pos.system\n.", "other than a storage"),
    "a persistent call": (SPRING + EMPTY_CALL + b"Q.", "other than a storage"),
    "a storage of a class": (
        b"(" + text("storage") + SPRING + text("0") + text("cpu") + b"K\x01tQ.", "unknown kind",
    ),
    "a storage of fewer than none": (STORAGE + b"J\xff\xff\xff\xfftQ.", "unknown kind"),
    "a path as a key": (
        STORAGE.replace(text("0"), text("../../etc/passwd")) + b"K\x01tQ.",
        "lacks its entry data/../",
    ),
    "a huge storage": (STORAGE + b"\x8a\x07" + b"\0" * 6 + b"\x40tQ.", "larger than the file"),
    "a huge tensor": (
        REBUILD + b"(" + STORAGE + b"K\x01tQK\x00\x8a\x07" + b"\0" * 6 + b"\x40\x85K\x00\x85\x89Nt"
        b"R.",
        "a tensor of 18014398509481984 numbers lies in a storage of 1",
    ),
    "a tensor beyond its storage": (
        REBUILD + b"(" + STORAGE + b"K\x01tQK\x01K\x01\x85K\x01\x85\x89NtR.", "in a storage of 1",
    ),
    "a tensor of a name": (
        REBUILD + b"(" + SPRING + b"K\x00)\x29\x89NtR.", "of something other than a storage",
    ),
    "a negative offset": (
        REBUILD + b"(" + STORAGE + b"K\x01tQJ\xff\xff\xff\xff))\x89NtR.", "unreadable shape",
    ),
    "bytes that are not there": (b"\x8e" + b"\xff" * 7 + b"\x7f.", "is damaged"),
    "a number that is not there": (b"\x8b\xff\xff\xff\x7f.", "is damaged"),
    "a key that takes for ever to hash": (
        b"}" + b"K\x01K\x02\x86" + b"2\x86" * 60 + b"Ns.", "a key of type tuple",
    ),
    "an OrderedDict of what it is given": (
        named("OrderedDict", "collections") + b"(]tR.", "OrderedDict of unknown arguments",
    ),
    "keys of a number": (b"K\x01NNs.", "sets keys of a value of type int"),
    "appended to a number": (b"K\x01Na.", "appends to a value of type int"),
    "an odd number of keys and values": (b"}(Nu.", "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_hostile_file_is_refused_in_a_sentence(
    tmp_path: Path, sprung: Callable[[], bool], name: str
) -> None:
    program, sentence = SAID[name]
    path = tmp_path / "weights.pt"
    path.write_bytes(archived(program, _0=b"\0" * 4))
    with pytest.raises(SemsegError, match=sentence) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not sprung()


def test_a_file_cannot_change_what_it_reaches(sprung: Callable[[], bool]) -> None:
    """BUILD sets attributes of what is on the stack: of names, dtypes, functions, tensors."""
    state = b"}" + text("__call__") + SPRING + b"sb"
    for thing in (
        named("float32", "torch"),
        REBUILD,
        named("OrderedDict", "collections"),
        named("OrderedDict", "collections") + EMPTY_CALL,
        REBUILD + b"(" + STORAGE + b"K\x01tQK\x00))\x89NtR",
    ):
        read(archived(thing + state + b".", _0=b"\0" * 4))
    assert all(not vars(function) for function in FUNCTIONS.values())
    assert "__call__" not in vars(Name)
    assert not callable(Name("a"))
    assert not sprung()


def test_objects_in_a_tensors_place_stay_records() -> None:
    """`_rebuild_from_type_v2` calls the function that a file gives it."""
    program = (
        named("_rebuild_from_type_v2", "torch._tensor")
        + b"(" + SPRING + SPRING + b")}tR."
    )  # fmt: skip
    assert isinstance(read(archived(program)), Record)


def test_deep_nesting_is_no_matter() -> None:
    for opening, closing in ((b"]", b"a"), (b")", b"\x85"), (b"(", b"l")):
        read(archived(opening * 100_000 + b"N" + closing * 100_000 + b"."))


def test_a_program_without_end_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semseg_cli.models.torch_files.machine.MOST_INSTRUCTIONS", 1000)
    with pytest.raises(BadPickle, match="more than 1000 instructions"):
        read(archived(b"N0" * 1000 + b"N."))


def test_one_large_state_for_many_objects_is_not_copied() -> None:
    entries = b"".join(text(f"k{n}") + b"N" for n in range(2000))
    program = b"}(" + entries + b"uq\x000](" + (named("Quiet") + b")\x81h\x00b") * 2000 + b"e."
    found = read(archived(program))
    assert len({id(part) for one in found for part in one.parts}) == 1


def test_a_value_that_takes_for_ever_to_print_is_not_small() -> None:
    doubled: Any = [1]
    for _ in range(60):
        doubled = [doubled, doubled]
    ring: list[Any] = []
    ring.append(ring)
    for large in (doubled, ring, {"a": ("x" * 20_000,)}, [torch.zeros(1)], Record("a.B")):
        assert not is_small(large)
    assert is_small({"a": [1, 2.0, None, "b", (True,)]})


def test_modules_in_a_ring_are_refused() -> None:
    module = Record("torch.nn.Module", parts=({"_modules": {}},))
    module.parts[0]["_modules"]["again"] = module
    with pytest.raises(BadPickle, match="modules in a ring"):
        module_tensors(module)


# --- archives -------------------------------------------------------------------------------------


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


Change = Callable[[str, bytes], tuple[str, bytes] | None]


def rewritten(data: bytes, change: Change, **how: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", **how) as new:
        for name in old.namelist():
            if (kept := change(name, old.read(name))) is not None:
                new.writestr(*kept)
    return file.getvalue()


ONE = saved({"a": torch.arange(600.0), "b": torch.zeros(5000)})
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "neither an archive nor a pickle"),
    "a picture": (b"\x89PNG\r\n", "neither an archive nor a pickle"),
    "a plain pickle": (pickle.dumps({"a": 1}), "torch.save has not written"),
    "compressed": (
        rewritten(ONE, lambda *entry: entry, compression=zipfile.ZIP_DEFLATED), "is compressed",
    ),
    "no pickle": (
        rewritten(ONE, lambda name, data: None if name.endswith("pkl") else (name, data)),
        "without one data.pkl",
    ),
    "two pickles": (
        rewritten(ONE, lambda name, data: (name.replace("byteorder", "b/data.pkl"), data)),
        "without one data.pkl",
    ),
    "no numbers": (
        rewritten(ONE, lambda name, data: None if "data/0" in name else (name, data)),
        "lacks its entry data/0",
    ),
    "fewer numbers": (
        rewritten(ONE, lambda name, data: (name, data[:9] if "data/0" in name else data)),
        "tensors are cut",
    ),
    "big-endian": (
        rewritten(ONE, lambda name, data: (name, b"big" if "byteorder" in name else data)),
        "big-endian",
    ),
    "a program": (
        rewritten(ONE, lambda name, data: (name.replace("version", "code/a.py"), data)),
        "TorchScript program",
    ),
    "cut": (ONE[:-50], "archive is damaged"),
    "a wrong sum": (ONE.replace(torch.arange(600.0).numpy().tobytes()[40:80], b"\1" * 40), "damag"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_archive_is_refused(name: str) -> None:
    data, sentence = ARCHIVES[name]
    with pytest.raises(BadPickle, match=sentence):
        read(data)


@pytest.mark.parametrize("older", [False, True])
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_read_or_refused(older: bool, data: st.DataObject) -> None:
    good = bytearray(
        saved(
            {"a": torch.arange(6.0).view(2, 3).T, "cfg": OrderedDict(k=3)},
            _use_new_zipfile_serialization=not older,
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    n_kept = data.draw(st.integers(len(good) // 2, len(good)))
    with contextlib.suppress(BadPickle):  # and nothing else
        read(bytes(good[:n_kept]))


# --- good files -----------------------------------------------------------------------------------

SOURCES = [
    torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64,
                  torch.uint8, torch.bool, torch.float8_e4m3fn)
]  # fmt: skip
VIEWS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    lambda x: x.T,
    lambda x: x[1:3, ::2],
    lambda x: x[2, 3],
    lambda x: x[:0],
    lambda x: nn.Parameter(x, requires_grad=False),
]
OPTIONS = [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda x: str(x.dtype))
def test_tensors_are_those_that_torch_loads(source: Tensor, options: dict[str, Any]) -> None:
    state = OrderedDict((str(i), view(source)) for i, view in enumerate(VIEWS))
    data = saved(state, **options)
    found = read(data)
    assert list(found) == list(state)
    expected = state if options else torch.load(io.BytesIO(data), weights_only=True)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].float(), tensor.float())


def test_two_views_share_one_storage() -> None:
    x = torch.arange(6.0)
    found = read(saved({"a": x, "b": x[2:4]}))
    found["a"][2] = 9
    assert found["b"][0] == 9


@pytest.mark.parametrize("options", OPTIONS)
def test_modules_are_records_with_the_names_of_their_state_dict(options: dict[str, Any]) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()))
    found = read(saved(module, **options))
    assert is_module(found)
    assert found.kind == "torch.nn.modules.container.Sequential"
    tensors, expected = module_tensors(found), module.state_dict()
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


class Settings:
    """A config as training code pickles it."""

    def __init__(self) -> None:
        self.device, self.dtype = torch.device("cuda:0"), torch.float16
        self.k, self.inner, self.size = 3, {"lr": [0.1, None]}, torch.Size([2, 3])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_config_is_read_as_its_values(protocol: int) -> None:
    found = read(saved({"cfg": Settings(), "seen": {1, 2}}, pickle_protocol=protocol))
    assert found["cfg"].kind == f"{__name__}.Settings"
    assert found["cfg"].state() == {
        "device": "cuda:0", "dtype": torch.float16, "k": 3, "inner": {"lr": [0.1, None]},
        "size": (2, 3),
    }  # fmt: skip
    assert found["seen"].kind.endswith(".set")
