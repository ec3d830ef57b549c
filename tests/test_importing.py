"""Loading modules without looking for garbage."""

import gc
import sys

import pytest

from semseg_cli.progress import importing, own_process


def test_garbage_is_looked_for_again_afterwards() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_a_process_of_its_own_puts_aside_what_it_has_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    gc.unfreeze()
    with importing():
        pass
    assert gc.get_freeze_count() == 0
    try:
        with own_process(), importing():
            pass
        assert gc.get_freeze_count() > 1000
        gc.unfreeze()
        monkeypatch.setitem(sys.modules, "triton", sys)
        with own_process(), importing():
            pass
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()
    with importing():
        pass
    assert gc.get_freeze_count() == 0
