"""Parallel regions in a process that has torch: one runtime for both, nested regions, forks, many Python threads."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convscope.native import NativeNetwork, availability

pytestmark = pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}")

_OPENMP = "OpenMP, "


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network(threads: int = 2) -> NativeNetwork:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    return NativeNetwork(model.eval(), (1, 8, 8), "cross_entropy", threads=threads)


def pictures(count: int = 50) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def runtime() -> str:
    """The library with torch's threads; skips where torch has another kind."""
    where: str = availability.engine().threads()
    if not where.startswith(_OPENMP):
        pytest.skip(f"the engine runs on {where}")
    return where.removeprefix(_OPENMP)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the engine has threads of its own")
@pytest.mark.skipif("OpenMP" not in torch.__config__.parallel_info(), reason="this torch runs without OpenMP")
def test_the_runtime_is_the_one_that_torch_loaded() -> None:
    if os.environ.get("CONVSCOPE_POOL") == "own":
        pytest.skip("CONVSCOPE_POOL=own")
    path = runtime()
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "omp" in line]
    assert Path(path).resolve() in [Path(each).resolve() for each in mapped]
    net, x = network(threads=torch.get_num_threads()), pictures()
    torch.randn(500, 500) @ torch.randn(500, 500)
    before = _tasks()
    for _ in range(5):
        net.forward(x)
        torch.randn(500, 500) @ torch.randn(500, 500)
    assert _tasks() <= before


def test_own_threads_where_torch_has_one() -> None:
    net, x = network(2), pictures()
    on_openmp = net.forward(x)
    torch.set_num_threads(1)
    assert availability.engine().threads() == "own threads"
    assert torch.equal(net.forward(x), on_openmp)


def _tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_own_threads_can_be_asked_for() -> None:
    code = (
        "import torch; from convscope.native import availability as a, NativeNetwork; from torch import nn;"
        "print(a.engine().threads());"
        "n = NativeNetwork(nn.Conv2d(1, 2, 3).eval(), (1, 5, 5), threads=2);"
        "x = torch.randn(40, 1, 5, 5); assert torch.allclose(n.forward(x), n.model(x), atol=1e-5)"
    )
    environment = {**os.environ, "CONVSCOPE_POOL": "own"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "own threads"), done.stderr


def test_many_python_threads() -> None:
    """Each with a network of its own, and all with one."""
    own = [network(1 + i % 3) for i in range(6)]
    shared = network(2)
    x = pictures()
    wanted = [each.forward(x) for each in own], shared.forward(x)
    start = threading.Barrier(6)

    def work(i: int) -> bool:
        start.wait()
        return all(
            torch.equal(own[i].forward(x), wanted[0][i]) and torch.equal(shared.forward(x), wanted[1])
            for _ in range(30)
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_within_a_parallel_region_of_torchs_runtime() -> None:
    """A team of one takes all numbers: the same result, bit for bit."""
    path = runtime()
    library = ctypes.CDLL(path)
    nets, x = [network(3), network(3)], pictures()
    wanted = [each.forward(x) for each in nets]
    found: dict[int, Tensor] = {}
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def work(_: object) -> None:
        number = library.omp_get_thread_num()
        found[number] = nets[number].forward(x)

    library.GOMP_parallel(region(work), None, 2, 0)
    assert sorted(found) == [0, 1]
    assert all(torch.equal(found[i], wanted[i]) for i in (0, 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork() -> None:
    """GNU's OpenMP does not survive it; the child's regions must, with the network and the threads that were used."""
    net, x = network(2), pictures()
    wanted = net.forward(x)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            fresh = NativeNetwork(net.model, (1, 8, 8), "cross_entropy", threads=3)
            same = all(torch.equal(net.forward(x), wanted) for _ in range(5))
            close = torch.allclose(fresh.forward(x), wanted, atol=1e-6)
            code = 0 if same and close and availability.engine().threads() == "own threads" else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert torch.equal(net.forward(x), wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_loaded_after_a_fork() -> None:
    """The parent used OpenMP with torch; only the child loads the engine."""
    code = (
        "import os, torch\n"
        "torch.set_num_threads(2)\n"
        "torch.randn(500, 500) @ torch.randn(500, 500)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "torch.set_num_threads(1)\n"
        "from torch import nn\n"
        "from convscope.native import NativeNetwork, availability\n"
        "n = NativeNetwork(nn.Conv2d(1, 2, 3).eval(), (1, 5, 5), threads=2)\n"
        "x = torch.randn(40, 1, 5, 5)\n"
        "assert torch.allclose(n.forward(x), n.model(x), atol=1e-5)\n"
        "assert availability.engine().threads() == 'own threads'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def deep() -> nn.Module:
    """So much work in a block of 16 images that threads share it: every way of a convolution, and what is between."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),  # pooled by rows
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU6(),  # F(4×4)
        nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Hardtanh(), nn.Conv2d(64, 96, 1), nn.SiLU(),
        nn.Conv2d(96, 64, 3, stride=2, padding=1), nn.Tanh(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(64, 96, 3, padding=1), nn.Dropout(0.3), nn.AvgPool2d(2), nn.Flatten(),  # F(2×2)
        nn.Linear(96 * 4, 200), nn.Sigmoid(), nn.Linear(200, 10),
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 16, 33])
def test_threads_that_share_a_block_answer_as_one_does(count: int) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    found = []
    for threads in (1, 2, 2, 3):
        model = deep().train()
        loss, _ = NativeNetwork(model, (3, 32, 32), "cross_entropy", threads=threads).loss_and_grad(x, labels, seed=1)
        found.append((loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (loss, alone), (_, once), (_, again), _ = found
    for other, shared in found:
        assert other == loss
        for name, gradient in alone.items():
            if count <= 16:  # one block: the same sums in the same order
                assert torch.equal(shared[name], gradient), name
            else:
                assert (shared[name] - gradient).abs().max() <= 1e-5 * max(float(gradient.abs().max()), 1e-3), name
    assert len(alone) == len(list(deep().parameters()))
    assert all(torch.equal(once[name], again[name]) for name in once)
