"""What prose promises of the whole tree and no other tool checks.

Which way imports may point is the import linter's; here are sizes, circles, and libraries that belong to one room.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ENGINE = sorted(path for path in (ROOT / "engine").rglob("*") if path.suffix in (".cpp", ".h", ".hpp"))
PAGE = sorted(
    path
    for path in (ROOT / "src" / "convscope" / "explorer" / "static").rglob("*")
    if path.suffix in (".js", ".css", ".html")
)
BY_HAND = [*SOURCES, *TESTS, *ENGINE, *PAGE]

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
COMPLEXITY = 20
#: What is yet to be mended; what is mended has to leave the list.
TOO_LONG: set[str] = set()
TOO_LARGE: set[str] = set()
TOO_COMPLEX: set[str] = set()


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """(name, node) of every function, methods as Class.method, functions within functions as outer.inner."""

    def within(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if not isinstance(child, ast.ClassDef):
                    yield prefix + child.name, child
                yield from within(child, f"{prefix}{child.name}.")
            else:
                yield from within(child, prefix)

    yield from within(ast.parse(path.read_text(encoding="utf-8")), "")


def lines(node: ast.AST) -> int:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def complexity(node: ast.AST) -> int:
    """McCabe's: one and the decisions, those in conditions, comprehensions and inner functions included."""
    total = 1
    for each in ast.walk(node):
        if isinstance(each, ast.If | ast.For | ast.AsyncFor | ast.While | ast.IfExp | ast.ExceptHandler | ast.Assert):
            total += 1
        elif isinstance(each, ast.BoolOp):
            total += len(each.values) - 1
        elif isinstance(each, ast.comprehension):
            total += 1 + len(each.ifs)
        elif isinstance(each, ast.match_case | ast.Lambda):
            total += 1
    return total


def offenders(measure: Callable[[ast.AST], bool]) -> set[str]:
    return {
        f"{path.relative_to(ROOT / 'src' / 'convscope').as_posix()}:{name}"
        for path in SOURCES
        for name, node in functions(path)
        if measure(node)
    }


def test_no_file_is_long() -> None:
    assert {named(path) for path in BY_HAND if path.read_text(encoding="utf-8").count("\n") > MOST_LINES} == TOO_LONG


def test_no_function_is_long() -> None:
    assert offenders(lambda node: lines(node) > MOST_LINES_OF_A_FUNCTION) == TOO_LARGE


def test_no_function_is_complex() -> None:
    assert offenders(lambda node: complexity(node) >= COMPLEXITY) == TOO_COMPLEX


def test_complexity_by_hand() -> None:
    program = """
def f(x):
    assert x                                    # 2
    for y in x:                                 # 3
        if y and not x or y > 2:                # 4, 5, 6
            return [z for z in y if z]          # 7, 8
    try:
        return 1 if x else lambda: 2            # 9, 10
    except OSError:                             # 11
        match x:
            case 1: pass                        # 12
            case _: pass                        # 13
"""
    (function,) = ast.parse(program).body
    assert complexity(function) == 13
    assert lines(function) == 11


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in the file, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{each.name}" for each in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("rich.progress", {"cli"}),
        ("click", {"cli", "__main__.py"}),
        ("starlette", {"explorer"}),
        ("uvicorn", {"explorer"}),
        ("websockets", {"explorer"}),
        ("matplotlib", {"inspect", "tasks", "experiments", "cli"}),
        ("convscope.native._engine", {"native/availability.py"}),
    ],
)
def test_a_library_belongs_to_its_rooms(library: str, rooms: set[str]) -> None:
    strangers = set()
    for path in SOURCES:
        place = path.relative_to(ROOT / "src" / "convscope").as_posix()
        at_home = any(place == room or place.startswith(f"{room}/") for room in rooms)
        if not at_home and any(name == library or name.startswith(f"{library}.") for name in imports(path)):
            strangers.add(place)
    assert strangers == ({"data/progress.py"} if library == "rich.progress" else set())


def test_no_circles_of_imports() -> None:
    graph = grimp.build_graph("convscope", exclude_type_checking_imports=True)
    # the compiled extension is no module of the graph: to import it counts as importing the package that holds it
    graph.remove_import(importer="convscope.native.availability", imported="convscope.native")
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imported).prepare()  # raises CycleError with the circle
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(imported | {"convscope.errors": {"convscope.cli.main"}}).prepare()


def test_nothing_is_pickled() -> None:
    forbidden = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        pickling = {name for name in imports(path) if name.partition(".")[0] in forbidden}
        assert pickling <= {"pickle", "pickle.UnpicklingError"}, named(path)
        assert not re.search(r"\bpickle\.", text), named(path)
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, named(path)
        assert "allow_pickle=True" not in text, named(path)  # numpy's own default refuses
        assert not re.search(r"^\s*torch\.save\(", text, re.MULTILINE), named(path)


def test_every_rule_lives_in_its_room() -> None:
    """The page of equations is written from ``rules/``: a rule elsewhere would be missing from it."""
    from convscope.rules.base import Rule, discover

    for path in SOURCES:
        if path.parent.name in ("layers", "inspect", "explorer"):
            importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    discover()
    found, pending = set(), [Rule]
    while pending:
        pending += (subclasses := pending.pop().__subclasses__())
        found |= {each.__module__.rpartition(".")[0] for each in subclasses if each.__module__.startswith("convscope")}
    assert found == {"convscope.rules"}


def test_tests_mirror_the_rooms() -> None:
    """A folder of tests is a room of the package, or one of the few that go across."""
    across = {"browser", "contracts", "docs", "vendor", "__pycache__"}
    rooms = {path.name for path in (ROOT / "src" / "convscope").iterdir()}
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} <= rooms | across


def test_public_names_are_there() -> None:
    import convscope

    for name in convscope.__all__:
        assert getattr(convscope, name) is not None
    with pytest.raises(AttributeError, match="module 'convscope' has no attribute 'trian'"):
        _ = convscope.trian
