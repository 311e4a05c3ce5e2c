"""What a job's folder promises: finished stages are loaded, other settings refused, damage told of."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.stages import jobs

from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.tasks.stages import Here, Job, Outcome, Stage, StageError, events, run_job, training


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    run_job(jobs.digits(), folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished job's folder."""
    return Path(shutil.copytree(finished, tmp_path / "job"))


def heard(call: Callable[..., Any], *arguments: Any, **named: Any) -> list[str]:
    """What happened to which stage, but for the training's own events."""
    seen: list[events.JobEvent] = []
    call(*arguments, **named, listeners=[seen.append])
    return [
        f"{type(event).__name__} {event.stage}"
        for event in seen
        if isinstance(event, events.StageLoaded | events.StageRedone | events.StageStarted)
    ]


ALL_LOADED = [f"StageLoaded {stage.name}" for stage in jobs.digits()]


def test_a_finished_job_called_again_only_reads(folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}
    assert heard(run_job, jobs.digits(), folder) == ALL_LOADED
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}
    del before[folder / "lock"], after[folder / "lock"]
    assert before == after


def test_outcomes_are_what_the_stages_came_to(folder: Path) -> None:
    outcomes = run_job(jobs.digits(), folder)
    assert list(outcomes) == [stage.name for stage in jobs.digits()]
    features = outcomes["features"]
    assert features["shape"] == [30, 10]
    assert sorted(features) == ["chance", "outputs", "rate", "shape"]
    assert len(features) == 4
    with pytest.raises(ArgumentError, match="got 'output', wanted one of stage 'features''s values: "):
        _ = features["output"]
    assert "output" not in features
    assert features.get("output", 3) == 3
    first = outcomes["first"]
    images = jobs.few(0).test.images.float() / 255
    with torch.no_grad():
        assert torch.equal(first.model()(images), features["outputs"])
    assert len(first) == 0
    assert [row["step"] for row in first.history] == [4, 7]
    assert first.history[0]["test_accuracy"] is not None
    assert first.metrics["images"] == 30
    assert outcomes["deep/second"]["accuracy"] == outcomes["deep/second"].metrics["accuracy"]
    assert not (folder / "committee" / "parts").exists()
    assert json.loads((folder / "deep" / "second" / "result.json").read_text())["values"] == dict(
        outcomes["deep/second"]
    )


def test_other_settings_are_refused_by_naming_all_that_differs(folder: Path) -> None:
    different = jobs.digits(seed=3, learning_rate=0.1)
    with pytest.raises(
        StageError, match=r"stage 'first': seed: 0 in the folder, 3 now, learning_rate: 0.01 in the"
    ) as raised:
        run_job(different, folder)
    assert "; stage 'deep/second': seed: 0 in the folder, 3 now; stage 'features': learning_rate: 0.01" in str(
        raised.value
    )
    assert "redo='changed' makes anew what differs and what follows from it" in str(raised.value)
    with pytest.raises(StageError, match="threads: 1 in the folder, 2 now"):
        run_job(jobs.digits(threads=2), folder)
    assert heard(run_job, jobs.digits(threads=None), folder) == ALL_LOADED, "threads left open are the folder's"


def test_what_differs_is_made_anew_when_asked_with_what_follows(folder: Path, tmp_path: Path) -> None:
    different = jobs.digits(learning_rate=0.1)
    told = heard(run_job, different, folder, redo="changed")
    assert told[0] == "StageRedone first"
    assert "StageLoaded deep/second" in told
    for name in ("features", "further", "committee"):
        assert f"StageRedone {name}" in told
        assert f"StageStarted {name}" in told
    run_job(different, tmp_path / "fresh")
    assert jobs.differing(jobs.result(tmp_path / "fresh"), jobs.result(folder)) == []
    assert heard(run_job, different, folder) == ALL_LOADED
    assert not list(folder.glob(".*"))


def test_a_stage_made_anew_with_the_same_result_leaves_what_follows(folder: Path) -> None:
    told = heard(run_job, jobs.digits(), folder, redo=["first"])
    assert [line for line in told if "Loaded" not in line] == ["StageRedone first", "StageStarted first"]
    with pytest.raises(UnknownNameError, match="redo: got 'frist', .*Did you mean 'first'"):
        run_job(jobs.digits(), folder, redo="frist")


def test_a_redo_that_was_interrupted_goes_on_without_asking_again(folder: Path) -> None:
    """The wish is noted in the folders before anything is removed."""
    different = jobs.digits(learning_rate=0.1)

    def stop(event: events.JobEvent) -> None:
        if event == events.StageStarted("features", False):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the job was interrupted; to go on: the same call with the folder"):
        run_job(different, folder, redo="changed", listeners=[stop])
    told = heard(run_job, different, folder)
    assert [line for line in told if "Loaded" in line] == ["StageLoaded first", "StageLoaded deep/second"]


def test_another_earlier_result_is_refused_unless_allowed(tmp_path: Path) -> None:
    def stages(value: int) -> list[Stage]:
        # a result that its settings do not tell: the world has changed
        return [
            Stage("world", lambda here: {"value": value}, {}),
            Stage("double", lambda here: {"value": 2 * here.earlier["world"]["value"]}, {}, after=["world"]),
        ]

    assert run_job(stages(1), tmp_path)["double"]["value"] == 2
    (tmp_path / "world" / "result.json").write_text("{}")
    with pytest.raises(StageError, match="'double': it was made from another result of 'world'. redo='double' makes"):
        run_job(stages(5), tmp_path)
    assert run_job(stages(5), tmp_path, redo="double")["double"]["value"] == 10


DAMAGES: dict[str, tuple[str, str]] = {
    "a model's file": ("first/model.safetensors", "model.safetensors is damaged"),
    "figures": ("deep/second/metrics.json", "metrics.json is damaged"),
    "a history": ("first/history.csv", "history.csv is damaged"),
    "tensors": ("features/result.safetensors", "result.safetensors is damaged"),
    "values": ("deep/second/result.json", "result.json is damaged"),
}


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_result_is_told_of_and_made_again(folder: Path, finished: Path, what: str, how: str) -> None:
    path, reason = folder / DAMAGES[what][0], DAMAGES[what][1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        path.unlink()
        reason = reason.replace("damaged", "missing")
    else:
        path.write_bytes(content if how == "changed" else content[:-7])
    seen: list[events.JobEvent] = []
    run_job(jobs.digits(), folder, listeners=[seen.append])
    stage = path.parent.relative_to(folder).as_posix()
    assert events.StageRedone(stage, reason) in seen
    assert events.StageStarted(stage, resumed=True) in seen
    steps = [e for e in seen if isinstance(e, events.StageTold) and e.event["event"] == "BatchDone"]
    assert not steps, "a training is not trained again: its checkpoint is whole"
    assert len([event for event in seen if isinstance(event, events.StageLoaded)]) == len(jobs.digits()) - 1
    assert jobs.differing(jobs.result(finished), jobs.result(folder)) == []


def test_a_training_without_a_whole_file_left_is_refused_by_name(folder: Path, finished: Path) -> None:
    for path in (folder / "first").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StageError, match="stage 'first': .*no whole checkpoint is left"):
        run_job(jobs.digits(), folder)
    run_job(jobs.digits(), folder, redo="first")
    assert jobs.differing(jobs.result(finished), jobs.result(folder)) == []


@pytest.mark.parametrize("content", ["", '{"format": 1}', '{"format": 99}', "[]", "null"])
def test_a_damaged_record_is_refused_by_name(folder: Path, content: str) -> None:
    (folder / "features" / "stage.json").write_text(content)
    with pytest.raises(StageError, match=r"stage 'features': .*stage.json is damaged.*redo='features' begins it anew"):
        run_job(jobs.digits(), folder)
    assert "StageRedone features" in heard(run_job, jobs.digits(), folder, redo="features")


def test_a_run_that_no_stage_began_is_refused(folder: Path) -> None:
    (folder / "first" / "stage.json").unlink()
    with pytest.raises(StageError, match="stage 'first': .*holds a run that no stage began. redo='first'"):
        run_job(jobs.digits(), folder)


def test_global_chance_does_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    def draw(here: Here) -> Mapping[str, Any]:
        import random

        import numpy

        return {"torch": torch.rand(2), "numpy": float(numpy.random.rand()), "python": random.random()}

    alone = run_job([Stage("b", draw, {})], tmp_path / "1")["b"]
    state = torch.random.get_rng_state()
    after = run_job([Stage("a", draw, {}), Stage("b", draw, {})], tmp_path / "2")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(alone["torch"], after["b"]["torch"])
    assert not torch.equal(after["a"]["torch"], after["b"]["torch"])
    assert (alone["numpy"], alone["python"]) == (after["b"]["numpy"], after["b"]["python"])


def test_parts_are_kept_until_the_stage_is_finished(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> Mapping[str, Any]:
        made.append(name)
        return {"value": len(name), "tensor": torch.ones(3)}

    def work(here: Here, stop: bool) -> Mapping[str, Any]:
        values = [here.part(name, functools.partial(make, name))["value"] for name in ("a", "b/c")]
        if stop:
            raise KeyboardInterrupt
        return {"sum": sum(values)}

    with pytest.raises(KeyboardInterrupt):
        run_job([Stage("s", lambda here: work(here, True), {})], tmp_path)
    (tmp_path / "s" / "parts" / "b" / "c.safetensors").write_bytes(b"cut")
    outcome = run_job([Stage("s", lambda here: work(here, False), {})], tmp_path)["s"]
    assert (outcome["sum"], made) == (4, ["a", "b/c", "b/c"]), "the damaged one is made again"
    assert not (tmp_path / "s" / "parts").exists()


def test_what_a_stage_may_do(tmp_path: Path) -> None:
    def attempt(work: Callable[[Here], Any]) -> dict[str, Outcome]:
        shutil.rmtree(tmp_path / "job", ignore_errors=True)
        return run_job([Stage("a", lambda here: {}, {}), Stage("b", work, {})], tmp_path / "job")

    with pytest.raises(StageError, match=r"stage 'b': earlier: got 'a', wanted one of no stages. Name it in after= of"):
        attempt(lambda here: here.earlier["a"])
    with pytest.raises(StageError, match=r"stage 'b': run_dir: got 'x', wanted nothing: the stage decides"):
        attempt(lambda here: here.fit("lenet5", "digits", run_dir="x"))
    with pytest.raises(StageError, match=r"stage 'b': name: got '../x', wanted a part's name"):
        attempt(lambda here: here.part("../x", dict))
    with pytest.raises(StageError, match=r"'loss' of stage 'b': got nan, wanted a tensor, or JSON values without nan"):
        attempt(lambda here: {"loss": float("nan")})
    with pytest.raises(StageError, match="'model' of stage 'b': got .*wanted a tensor, or JSON"):
        attempt(lambda here: {"model": torch.nn.ReLU()})

    def twice(here: Here) -> None:
        for _ in range(2):
            here.fit(jobs.small(0), jobs.few(0), **jobs.OPTIONS)

    with pytest.raises(StageError, match="stage 'b': fit: got \"a second call in stage 'b'\", wanted one training a"):
        attempt(twice)
    with pytest.raises(ZeroDivisionError):
        attempt(lambda here: 1 // 0)


def nothing(here: Here) -> None:
    """A stage's work."""


def test_what_cannot_be_a_job_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for bad in ("../a", "a/../b", "/a", "", ".a", "a//b", "a b"):
        with pytest.raises(ArgumentError, match="name: got .*wanted a stage's name"):
            Stage(bad, nothing, {})
    with pytest.raises(ArgumentError, match="settings of stage 'a': got .*wanted JSON values"):
        Stage("a", nothing, {"x": torch.ones(1)})
    with pytest.raises(ArgumentError, match="threads: got 0"):
        Stage("a", nothing, {}, threads=0)
    a, b = Stage("a", nothing, {}), Stage("b", nothing, {}, after=["a"])
    for stages, message in (
        ([], "stages: got 'none'"),
        ([a, a], "stages: got 'a', wanted names that occur once"),
        ([b, a], r"after of stage 'b' \(a stage before it\): got 'a'"),
        ([a, Stage("a/b", nothing, {})], "stages: got 'a/b', wanted a folder that does not lie in stage 'a''s"),
        ([Stage("lock", nothing, {})], "stages: got 'lock'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            run_job(stages, out)
    with pytest.raises(ArgumentError, match="workers: got 0"):
        run_job([a], out, workers=0)
    with pytest.raises(ArgumentError, match="workers: got 2, wanted 1 for stages given as a list"):
        run_job([a], out, workers=2)
    with pytest.raises(
        ArgumentError, match="function: got .*<lambda>', wanted a function at the top level of a module"
    ):
        Job.of(lambda: [a])
    assert not out.exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArgumentError, match="folder: got .*wanted a folder that can be written"):
        run_job([a], tmp_path / "file" / "out")


def test_torchrun_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="WORLD_SIZE: got '2', wanted a job of stages started once"):
        run_job([Stage("a", nothing, {})], tmp_path)


def test_how_a_training_is_described() -> None:
    named = training("a", "lenet5", "digits", model_options={"activation": "relu"}, epochs=2)
    assert named.settings == {"model": "lenet5", "data": "digits", "model_options": {"activation": "relu"}, "epochs": 2}
    with pytest.raises(ArgumentError, match=r"described\['data'\]: got None, wanted words that say what the function"):
        training("a", "lenet5", lambda _: jobs.few(0))
    first, second = (training("a", jobs.small(1), jobs.few(start)).settings for start in (0, 60))
    assert first["model"] == second["model"]
    assert first["data"]["name"] == second["data"]["name"] == "digits"
    assert first["data"] != second["data"]
    assert first == training("a", jobs.small(1), jobs.few(0)).settings
    assert first["model"] != training("a", jobs.small(2), jobs.few(0)).settings["model"]


def test_damaged_files_read_by_hand_say_so(folder: Path) -> None:
    outcome = run_job(jobs.digits(), folder)["deep/second"]
    (folder / "deep" / "second" / "metrics.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics.json: damaged"):
        _ = outcome.metrics
    (folder / "deep" / "second" / "result.json").write_text('{"values": {}}')
    with pytest.raises(CheckpointError, match="not the result of a stage"):
        _ = outcome.values
