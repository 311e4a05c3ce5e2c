"""Quotas of processor time, as control groups of both versions write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convscope.native import processors


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def first_version(group: str, quota: int) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "150000 50000\n", "a/b/cpu.max": "max 100000\n", "cpu.max": "900000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "400000 100000\n"}, 1),
        ("0::/../host/only\n", {"cpu.max": "400000 100000\n"}, 4),  # a path that only the host can resolve
        ("4:cpu,cpuacct:/job\n", first_version("cpu,cpuacct/job", -1), None),
        ("4:cpu,cpuacct:/job\n", first_version("cpu,cpuacct/job", 350000), 4),
        ("4:cpu,cpuacct:/job\n", first_version("cpu,cpuacct", 50000), 1),
        ("3:memory:/job\n0::/\n", first_version("memory/job", 100000), None),
    ],
)  # fmt: skip
def test_quota(tmp_path: Path, membership: str, files: dict[str, str], limit: int | None) -> None:
    assert processors.quota(membership, write(tmp_path, files)) == limit


@pytest.mark.parametrize(("limit", "wanted"), [(None, 3), (2, 2), (8, 3)])
def test_threads(monkeypatch: pytest.MonkeyPatch, limit: int | None, wanted: int) -> None:
    monkeypatch.setattr(processors, "_quota", lambda: limit)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert processors.threads() == wanted
    finally:
        torch.set_num_threads(before)
