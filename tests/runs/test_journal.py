"""A journal gives back what was written, up to the first byte that is not, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.runs.journal import FRAME, Journal

RUN = {"--seed": [42], "the images": "ab", "--scale": [[-2.0]]}
TOPIC = b"edits"


def begun(path: Path, *records: bytes, topic: bytes = TOPIC) -> bytes:
    """A new journal with these records; its bytes."""
    with Journal(path, RUN, is_new=True) as journal:
        assert list(journal.records(topic)) == []
        for record in records:
            journal.append(record)
    return path.read_bytes()


def read(path: Path, topic: bytes = TOPIC) -> list[bytes]:
    with Journal(path, RUN, is_new=False) as journal:
        return list(journal.records(topic))


def n_before(path: Path) -> int:
    """Where the first record begins."""
    return len(begun(path))


@given(st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_what_is_left_of_a_cut_file_and_the_rest_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    least = n_before(path)
    whole = begun(path, *records)
    cut = data.draw(st.integers(least, len(whole)))
    path.write_bytes(whole[:cut])
    with Journal(path, RUN, is_new=False) as journal:
        kept = list(journal.records(TOPIC))
        assert kept == records[: len(kept)]
        assert (kept == records) == (cut == len(whole))
        for record in records[len(kept) :]:
            journal.append(record)
    assert path.read_bytes() == whole


@given(st.data())
def test_a_changed_byte_ends_the_records_and_gives_none_that_was_not_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "journal"
    records = [b"one", b"two" * 10, b"three"]
    least = n_before(path)
    whole = bytearray(begun(path, *records))
    at = data.draw(st.integers(least, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(whole))
    kept = read(path)
    assert len(kept) < 3
    assert kept == records[: len(kept)]


def test_records_of_another_journal_or_in_another_order_are_none(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    least = n_before(path)
    whole = begun(path, b"one", b"two")
    size = FRAME.size + 3
    path.write_bytes(whole[:least] + whole[least + size :] + whole[least : least + size])
    assert read(path) == []
    with Journal(tmp_path / "other", {**RUN, "--seed": [43]}, is_new=True) as other:
        assert list(other.records(TOPIC)) == []
        other.append(b"one")
    foreign = (tmp_path / "other").read_bytes()[-size:]
    path.write_bytes(whole[:least] + foreign)
    assert read(path) == []


def test_other_inputs_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    begun(path, b"one")
    with pytest.raises(UsageError, match=r"begun otherwise \(--seed, the images\): give"):
        Journal(path, {**RUN, "--seed": [43], "the images": "cd"}, is_new=False)
    with pytest.raises(UsageError, match=r"\(--draws\)"):
        Journal(path, {**RUN, "--draws": 3}, is_new=False)
    assert read(path) == [b"one"]


@pytest.mark.parametrize("n_bytes", [0, 7, 25, 40])
def test_a_journal_without_its_head_says_nothing(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "journal"
    path.write_bytes(begun(path, b"one")[:n_bytes])
    with pytest.raises(SemsegError, match="stopped before it counted anything"):
        read(path)


def test_none_at_all_or_a_folder_says_nothing_either(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SemsegError, match="stopped before it counted anything"):
            read(path)


def test_records_of_other_edits_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    begun(path, b"one", b"two")
    assert read(path, topic=b"other edits") == []
    assert path.read_bytes() == begun(tmp_path / "new", topic=b"other edits")


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    begun(path, b"one")
    with Journal(path, RUN, is_new=False), pytest.raises(SemsegError, match="still running"):
        read(path)
    assert read(path) == [b"one"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, RUN, is_new=True) as journal:
        assert list(journal.records(TOPIC)) == []
        journal._file.close()
        journal._file = open("/dev/full", "w+b")  # noqa: SIM115
        with pytest.raises(SemsegError, match="free some space or give another --dump-to"):
            journal.append(b"one")


def test_what_was_made_once_is_kept_and_not_made_again(tmp_path: Path) -> None:
    path, made = tmp_path / "journal", []

    def make(what: str) -> Callable[[], str]:
        return lambda: made.append(what) or what  # type: ignore[func-returns-value]

    with Journal(path, RUN, is_new=True) as journal:
        assert journal.kept("a", make("first")) == "first"
        assert journal.kept("b", make("two\nlines")) == "two\nlines"
        assert list(journal.records(TOPIC)) == []
        journal.append(b"one")
    with Journal(path, RUN, is_new=False) as journal:
        assert journal.kept("a", make("other")) == "first"
        assert journal.kept("b", make("other")) == "two\nlines"
        assert list(journal.records(TOPIC)) == [b"one"]
    assert made == ["first", "two\nlines"]
    with Journal(path, RUN, is_new=False) as journal:  # other edits drop the counts alone
        assert journal.kept("a", make("other")) == "first"
        assert journal.kept("b", make("other")) == "two\nlines"
        assert list(journal.records(b"other edits")) == []
    with Journal(path, RUN, is_new=False) as journal:  # what is not there drops what follows
        assert journal.kept("c", make("third")) == "third"
        assert list(journal.records(TOPIC)) == []


@given(st.data())
def test_what_is_left_of_a_cut_choice_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    with Journal(path, RUN, is_new=True):
        least = path.stat().st_size
    path.unlink()
    with Journal(path, RUN, is_new=True) as journal:
        assert journal.kept("a", lambda: "first") == "first"
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(least, len(whole) - 1))])
    with Journal(path, RUN, is_new=False) as journal:
        assert journal.kept("a", lambda: "again") == "again"
        assert list(journal.records(TOPIC)) == []
