"""A library that cannot be imported is named as such, not blamed on the user's files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from semseg_cli.errors import library_error

BROKEN = "import torch\nraise AttributeError(\"module 'torch' has no attribute 'float9'\")\n"


def error_of(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: str) -> Exception:
    """What importing a library of this source raises, where `code` imports it."""
    (folder / "of_others.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "of_others", raising=False)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(code, {"__name__": "semseg_cli.of_ours"})
    return caught.value


def test_the_library_and_its_reason_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = error_of(tmp_path, monkeypatch, BROKEN, "import of_others")
    assert "The library of_others cannot be imported (AttributeError: module 'torch' has no" in str(
        library_error(error)
    )
    lazily = (
        "try:\n    import of_others\nexcept Exception as e:\n    raise RuntimeError('late') from e"
    )
    assert "(AttributeError: module" in str(
        library_error(error_of(tmp_path, monkeypatch, BROKEN, lazily))
    )


def test_packages_of_other_versions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["torch>=99", "numpy>=1", "nothing-of-this-name", 'extra-only>=9; extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: asked)
    error = error_of(tmp_path, monkeypatch, BROKEN, "import of_others")
    said = str(library_error(error))
    assert "; installed are torch 2." in said
    assert "(expected >=99), no nothing-of-this-name: install" in said


def test_other_errors_are_no_library_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library_error(ValueError("of ours")) is None
    error = error_of(tmp_path, monkeypatch, "def f():\n    raise ValueError\n",
                     "import of_others\nof_others.f()")  # fmt: skip
    assert library_error(error) is None
    handled = "try:\n    import of_others\nexcept Exception:\n    raise KeyError"
    assert library_error(error_of(tmp_path, monkeypatch, BROKEN, handled)) is None


def test_a_command_names_it_and_not_the_model(tmp_path: Path) -> None:
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "semseg_cli", "lookup", "--no-track", "--images", "2"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 1
    assert "The library transformers cannot be imported (AttributeError:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_while_importing_is_no_matter_of_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "raise OSError(28, 'No space left on device')"
    assert library_error(error_of(tmp_path, monkeypatch, full, "import of_others")) is None
