"""Published heads by their address: fetched once, from one place only."""

import io
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from semseg_cli.errors import SemsegError
from semseg_cli.models import head_download
from semseg_cli.models.head_download import SERVER, fetch_head, is_address

ADDRESS = f"{SERVER}dinov2/dinov2_vitb14/dinov2_vitb14_ade20k_linear_head.pth"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are asked for; the answer is three bytes."""
    seen: list[str] = []

    def urlopen(address: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        seen.append(address)
        return io.BytesIO(b"abc")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(head_download.urllib.request, "urlopen", urlopen)
    return seen


def test_a_head_is_fetched_once(tmp_path: Path, asked: list[str]) -> None:
    path = fetch_head(ADDRESS, tmp_path)
    assert path == tmp_path / "heads" / "dinov2_vitb14_ade20k_linear_head.pth"
    assert path.read_bytes() == b"abc"
    assert fetch_head(ADDRESS, tmp_path) == path
    assert asked == [ADDRESS]
    assert is_address(ADDRESS)
    assert not is_address("head.pt")


@pytest.mark.parametrize(
    "address",
    [
        "http://dl.fbaipublicfiles.com/dinov2/x.pth",
        "https://example.org/x.pth",
        "file:///etc/passwd",
        f"{SERVER}dinov2/..",
        f"{SERVER}dinov2/x.pth?y",
        f"{SERVER}dinov2/x.tar",
    ],
)
def test_no_other_address_is_asked(tmp_path: Path, asked: list[str], address: str) -> None:
    with pytest.raises(SemsegError, match="is not fetched: of addresses only DINOv2's heads"):
        fetch_head(address, tmp_path)
    assert not asked


def test_offline_and_failures_are_one_sentence_and_leave_nothing(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SemsegError, match="HF_HUB_OFFLINE: download it elsewhere, and put it at"):
        fetch_head(ADDRESS, tmp_path)
    assert not asked
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(head_download.urllib.request, "urlopen", fail)
    with pytest.raises(SemsegError, match=r"cannot be fetched .*no route"):
        fetch_head(ADDRESS, tmp_path)
    monkeypatch.setattr(head_download, "MOST_BYTES", 2)
    monkeypatch.setattr(
        head_download.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"abc")
    )
    with pytest.raises(SemsegError, match="is larger than 2 bytes"):
        fetch_head(ADDRESS, tmp_path)
    assert not list((tmp_path / "heads").iterdir())
