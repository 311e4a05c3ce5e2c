"""Two hosts in miniature: two network namespaces with a cable between them, a torchrun in each, one job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from convscope.tasks import fit

SCRIPT = Path(__file__).parents[2] / "examples" / "two_hosts" / "two_hosts.sh"
SETTINGS = (
    "--recipe", "none", "--data", "digits", "--engine", "torch", "--precision", "float64", "--augment", "crop:1",
    "--no-watch", "--no-pictures", "--threads", "1", "--optimiser", "sgd", "--device", "cpu", "--quiet",
)  # fmt: skip


def forbidden() -> str:
    """Why namespaces cannot be made here; nothing where they can."""
    if any(shutil.which(each) is None for each in ("unshare", "nsenter", "ip")):
        return "unshare, nsenter and ip are not all installed"
    tried = "unshare --net true && ip link add cable0 type veth && test -w /proc/sys/net/ipv4/tcp_retries2"
    command = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", tried]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"network namespaces are not permitted here: {done.stderr.strip()}"


def two_hosts(*arguments: str) -> list[str]:
    """What both print, a line each, with the host's name in front."""
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    return (done.stdout + done.stderr).splitlines()


def train(folder: Path, *more: str) -> tuple[str, ...]:
    return ("-m", "convscope", "train", "lenet5", *SETTINGS, "--run-dir", str(folder), *more)


@pytest.mark.long
def test_two_hosts_train_what_one_process_trains(tmp_path: Path) -> None:
    reason = forbidden()
    if reason:
        pytest.skip(reason)
    said = two_hosts(*train(tmp_path / "two", "--max-steps", "12"))
    assert (tmp_path / "two" / "model.safetensors").is_file(), "\n".join(said)
    assert '"processes": 2' in (tmp_path / "two" / "events.jsonl").read_text()
    fit(
        "lenet5", "digits", engine="torch", precision="float64", max_steps=12, run_dir=str(tmp_path / "one"),
        augment="crop:1", watch=False, optimiser="sgd", device="cpu",
    )  # fmt: skip
    one, two = (load_file(tmp_path / each / "model.safetensors") for each in ("one", "two"))
    assert all(float((weight - two[name]).abs().max()) < 1e-9 for name, weight in one.items())
    assert max(float(weight.abs().max()) for weight in one.values()) > 0.1


@pytest.mark.long
def test_a_host_whose_network_is_gone_ends_the_job_with_one_line_on_each(tmp_path: Path) -> None:
    """Nobody closes a connection, nobody answers: the wait for an exchange ends, and so does that for the meeting
    place, by which the processes of one machine settle who speaks."""
    reason = forbidden()
    if reason:
        pytest.skip(reason)
    folder = tmp_path / "cut"
    settings = train(folder, "--epochs", "100000", "--checkpoint-batches", "5", "--process-timeout", "2")
    said = two_hosts("--cut", str(folder / "history.csv"), *settings)
    lost = [line for line in said if ": convscope:" in line]
    assert sorted(line.split(":")[0] for line in lost) == ["first", "second"], "\n".join(said)
    for line in lost:
        assert "another process of this job has ended or cannot be reached (Timed out waiting 2000ms" in line
        assert line.endswith(f"Go on, with any number of processes: convscope train --resume {folder}")
    log = (folder / "events.jsonl").read_text()
    done = log.count("EpochDone")
    assert done >= 1
    assert "RunFinished" not in log
    result = fit(run_dir=str(folder), resume=True, epochs=done + 1)
    assert len(result.history) == done + 1
