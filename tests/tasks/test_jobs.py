"""Jobs: each is found by its name alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convscope.tasks.jobs import JOBS

LOOKED_FOR = "from convscope.tasks.jobs import JOBS; import sys; print({name!r} in JOBS, *sys.modules)"


def test_every_job_is_in_a_module_of_its_own_name() -> None:
    assert JOBS.names()
    for name in JOBS:
        assert JOBS[name].__module__.rpartition(".")[2] == name


@pytest.mark.parametrize("name", ["lenet5", "mcdnn"])
def test_looking_for_a_job_loads_no_other_tasks(name: str) -> None:
    answer, *modules = subprocess.run(
        [sys.executable, "-c", LOOKED_FOR.format(name=name)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert answer == str(name == "mcdnn")
    others = ("convscope.tasks.detection", "convscope.tasks.lines")
    assert not [module for module in modules if module.startswith(others)]
