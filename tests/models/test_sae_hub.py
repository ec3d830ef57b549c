"""`hf://` paths: from the hub's cache without a network, refused where there is nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from sae_files import CASES, tokens, weights

from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.models import sae as saes
from semseg_cli.models.sae import hub
from semseg_cli.models.sae.formats import FILES

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Cached = Callable[[str, str, str], Path]


def put(cache: Path, case: str, repository: str, inside: str) -> Path:
    """A case's files where the hub client keeps those of a repository's main branch."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT / inside
    folder.mkdir(parents=True, exist_ok=True)
    return CASES[case].write(folder, weights())


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return lambda case, repository, inside: put(tmp_path, case, repository, inside)


@pytest.mark.parametrize(
    ("case", "inside", "named"),
    [
        ("saev 5", "", "/sae.pt"),
        ("saev 5", "", ""),
        ("saev 5", "layer_9/a1b2", "/layer_9/a1b2/sae.pt"),
        ("saelens jumprelu", "blocks.9.hook_resid_post", "/blocks.9.hook_resid_post"),
        ("saelens jumprelu", "blocks.9", "/blocks.9/sae_weights.safetensors"),
        ("dl BatchTopKSAE", "trainer_0", "/trainer_0/"),
        ("sparsify", "", ""),
        ("overcomplete TopKSAE", "", ""),
        ("prisma", "", ""),
        ("prisma, pickled", "", ""),
        ("prisma, pickled", "layer_9", "/layer_9/weights.pt"),
        ("visaebench", "batchtopk_16x_k128", "/batchtopk_16x_k128"),
        ("visaebench", "batchtopk_16x_k128", "/batchtopk_16x_k128/sae.pt"),
        ("clipscope", "22_resid", "/22_resid/120013184.pt"),
        ("usae", "", "/uni_ViT_checkpoint_1.pth"),
    ],
)
def test_the_cache_is_read_without_a_network(
    cached: Cached, case: str, inside: str, named: str
) -> None:
    path = cached(case, "owner/repo", inside)
    x = torch.from_numpy(tokens())
    found = saes.load(f"hf://owner/repo{named}")
    assert torch.equal(found.encode(x), saes.load(path).encode(x))


def test_a_revision_can_be_named(cached: Cached) -> None:
    cached("saev 5", "owner/repo", "")
    assert saes.load(f"hf://owner/repo@{COMMIT}/sae.pt").d_sae == 12


@pytest.mark.parametrize("path", ["hf://", "hf://owner", "hf://owner/", "hf:///repo/sae.pt"])
def test_a_path_without_a_repository_is_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError, match="names no repository"):
        saes.load(path)


@pytest.mark.parametrize("path", ["hf://owner/nowhere/sae.pt", "hf://owner/nowhere"])
def test_what_is_not_cached_is_refused_offline(cached: Cached, path: str) -> None:
    with pytest.raises(SemsegError, match=r"cannot be fetched .* HF_HUB_OFFLINE, or give"):
        saes.load(path)


def test_another_file_of_a_cached_repository_is_refused(cached: Cached) -> None:
    cached("saev 5", "owner/repo", "")
    with pytest.raises(SemsegError, match="neither in the cache nor on the hub"):
        saes.load("hf://owner/repo/layer_9/sae.pt")


@pytest.mark.parametrize(
    ("inside", "wanted", "unwanted"),
    [
        ("sae.pt", {"sae.pt", "cfg.json", "config.json"}, {"ae.pt"}),
        ("a/b/ae.pt", {"a/b/ae.pt", "a/b/config.json", "a/config.json"}, {"a/b/sae.pt"}),
        ("t/checkpoints/ae_9.pt", {"t/checkpoints/ae_9.pt", "t/config.json"}, {"config.json"}),
        ("t", {"t/checkpoints/ae_*.pt", "t/config.json", "t/config.yaml"}, {"t/*"}),
        ("a.b/c", {"a.b/c/sae.pt", "a.b/c/cfg.json", "a.b/c/sae.safetensors"}, {"cfg.json"}),
        ("", {"sae.pt", "cfg.json", "weights.pt"}, {"*"}),
    ],
)
def test_only_the_files_of_one_autoencoder_are_fetched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: str,
    wanted: set[str],
    unwanted: set[str],
) -> None:
    asked: dict[str, object] = {}

    def snapshot(repository: str, **options: object) -> str:
        asked.update(repository=repository, **options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    assert hub.fetch(f"hf://owner/repo/{inside}", FILES) == tmp_path / inside
    patterns = set(asked["allow_patterns"])  # type: ignore[call-overload]
    assert (asked["repository"], asked["revision"]) == ("owner/repo", None)
    assert wanted <= patterns
    assert not unwanted & patterns


def test_the_variable_of_the_hub_client_is_respected(tmp_path: Path) -> None:
    put(tmp_path, "saev 5", "owner/repo", "")
    code = "from semseg_cli.models import sae; print(sae.load('hf://owner/repo').d_sae)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "12\n"
