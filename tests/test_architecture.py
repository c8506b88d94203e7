"""The house's rules, read from the source: floors, imports without work, names and sizes."""

from __future__ import annotations

import ast
import builtins
import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the ground up. A file imports from its own floor's room and from floors below, never from
# another room of its own floor. A room is named by the folder that it begins with; the longest
# name counts. "launchers" are the files of the top level but for main.py and example.py. The
# benchmarks, the example and the README's pictures lie on no floor.
FLOORS = (
    ("utils",),
    ("evaluation/metrics",),  # arrays in, numbers out: what moves weights asks it too
    ("data", "model"),
    ("evaluation",),
    ("training", "prediction"),
    ("launchers",),
    ("main",),
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ON_NO_FLOOR = ("benchmarks", "images")
PACKAGES = sorted({room.split("/")[0] for room in ROOMS} - {"launchers", "main"})
# What a constant may be made with: functions that only compute.
PURE_MODULES = {"collections", "dataclasses", "enum", "functools", "math", "numpy", "re", "typing"}
ACTING_BUILTINS = {"breakpoint", "compile", "eval", "exec", "__import__", "input", "open", "print"}
OPTIONAL = {"effdet"}  # a peer of the benchmark, which does without it
HEAVY = ("torch", "torchvision", "pytorch_lightning", "matplotlib", "numpy")


def source_files() -> list[Path]:
    top = ROOT.glob("*.py")
    inside = (path for name in (*PACKAGES, *ON_NO_FLOOR) for path in (ROOT / name).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in (*top, *inside))


LAUNCHERS = {"trainer", "monitor", "predictor", "checker"}
FILES = source_files()
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
MOST_LINES = 300
each_file = pytest.mark.parametrize("file", FILES, ids=str)


def room_of(module: str) -> str | None:
    """The room that a dotted name belongs to; None for a library."""
    parts = module.split(".")
    if parts[0] in (*ON_NO_FLOOR, "main", "example"):
        return parts[0]
    for length in range(len(parts), 0, -1):
        if (room := "/".join(parts[:length])) in ROOMS:
            return room
    return "launchers" if (ROOT / f"{parts[0]}.py").is_file() else None


def may_import(room: str, other: str) -> bool:
    if room == "benchmarks":
        return other != "main"
    if room == "example":
        return other == "model"
    if room == "images":
        return other in ("data", "utils")
    # The benchmarks and the example lie on no floor.
    return other in ROOMS and (room == other or ROOMS[other] < ROOMS[room])


def module_of(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


def imported_modules(tree: ast.AST, file: Path) -> set[str]:
    """Dotted names of all imports, also of those inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = file.parts[: len(file.parts) - node.level] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            # ``from data import dataset`` imports a module too.
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found |= {base} | {n for n in inside if (ROOT / f"{n.replace('.', '/')}.py").is_file()}
    return found


def test_every_room_is_looked_at() -> None:
    assert {room_of(module_of(file)) for file in FILES} == {*ROOMS, *ON_NO_FLOOR, "example"}


@each_file
def test_a_file_imports_only_what_its_floor_may(file: Path) -> None:
    """From floors below; a launcher in main alone, the configuration in main and launchers."""
    room, modules = room_of(module_of(file)), imported_modules(tree_of(file), file)
    assert room is not None
    for module in modules:
        other = room_of(module)
        assert other is None or may_import(room, other), f"{file} imports {module}"
    assert room in ("main", "benchmarks") or not modules & LAUNCHERS
    if room not in ("main", "launchers", "utils"):
        assert not modules & {"utils.config", "utils.commands"}


def test_no_two_modules_have_one_name() -> None:
    names = Counter(file.stem for file in FILES if file.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_longer_than_300_lines() -> None:
    """Nor a test's."""
    lines = {file: len((ROOT / file).read_text("utf-8").splitlines()) for file in (*FILES, *TESTS)}
    assert {str(file): count for file, count in lines.items() if count > MOST_LINES} == {}


def test_tests_mirror_the_tree() -> None:
    folders = {file.parent.relative_to("tests") for file in TESTS if file.name[:5] == "test_"}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize("name", sorted(LAUNCHERS))
def test_every_launcher_takes_a_config_and_returns_an_exit_status(name: str) -> None:
    launch = next(n for n in tree_of(Path(f"{name}.py")).body if getattr(n, "name", "") == "launch")
    assert ast.unparse(launch).startswith("def launch(config: Config) -> int:")


def test_no_two_files_import_each_other() -> None:
    """Imports inside functions count too. A package's own name is left out: ``data`` names its
    readers, and who imports one of them runs ``data/__init__.py`` first in any case."""
    names = {module_of(file).removesuffix(".__init__"): file for file in FILES}
    graph = {
        name: {n for n in imported_modules(tree_of(file), file) if n in names and n not in PACKAGES}
        for name, file in names.items()
    }
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


def is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return isinstance(node, (*kinds, ast.AsyncFunctionDef, ast.Pass))


def evaluated_on_import(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """Values of constants, default arguments and those of class bodies."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from evaluated_on_import(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from filter(None, [*node.args.defaults, *node.args.kw_defaults])
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            yield node.value


def acting_calls(tree: ast.Module) -> list[str]:
    """Calls on import that may do more than compute a constant."""
    source = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            source |= {(a.asname or a.name.split(".")[0]): a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            source |= {(a.asname or a.name): node.module or "" for a in node.names}
    found = []
    for value in evaluated_on_import(tree.body):
        for call in (n for n in ast.walk(value) if isinstance(n, ast.Call)):
            root: ast.expr = call.func
            while isinstance(root, (ast.Attribute, ast.Call)):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            name = root.id if isinstance(root, ast.Name) else ""
            library = name in source and room_of(source[name]) is None
            impure = library and source[name].split(".")[0] not in PURE_MODULES
            if impure or (name in dir(builtins) and name in ACTING_BUILTINS):
                found.append(ast.unparse(call))
    return found


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.ClassDef):
            yield from statements(node.body)


@each_file
def test_importing_defines_and_does_no_work(file: Path) -> None:
    tree = tree_of(file)
    acting = [ast.unparse(node) for node in statements(tree.body) if not is_definition(node)]
    assert not acting and not acting_calls(tree)


@pytest.mark.parametrize(
    "code",
    [
        "print('hello')",
        "for i in range(3):\n    pass",
        "import torch\nDEVICE = torch.device('cuda')",
        "from torch import cuda as c\nHERE = c.is_available()",
        "TEXT = open('x').read()",
        "import sys\nFLAGS = list(sys.argv.copy())",
        "class A:\n    print('hello')",
        "import os\ndef f(x=os.getcwd()):\n    pass",
        "if 1:\n    X = 2",
    ],
)
def test_the_rule_sees_work_done_on_import(code: str) -> None:
    tree = ast.parse(code)
    assert acting_calls(tree) or not all(is_definition(n) for n in statements(tree.body))


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys, main
try:
    main.main(["--help"])
except SystemExit as end:
    assert end.code == 0
print("LOADED", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    output = in_a_process(code)
    assert "--batch-size" in output and output.splitlines()[-1] == "LOADED"


def test_importing_every_file_opens_nothing_and_touches_no_device() -> None:
    """The libraries are there before the watch begins: what they do is their own affair."""
    modules = [module_of(f) for f in FILES if f.name != "__init__.py"]
    libraries = {m for f in FILES for m in imported_modules(tree_of(f), f) if room_of(m) is None}
    libraries -= OPTIONAL
    code = f"""
import importlib, os, sys
for name in {sorted(libraries)!r}:
    importlib.import_module(name)
acts = []
def watch(event, args):
    source = event == "open" and str(args[0]).endswith((".py", ".pyc"))
    bytecode = "__pycache__" in str(args)
    if event in ("open", "socket.connect", "subprocess.Popen", "os.mkdir", "os.remove"):
        if not source and not bytecode:
            acts.append((event, args))
sys.addaudithook(watch)
sys.argv = ["program", "--no-such-flag"]
for name in {modules!r}:
    importlib.import_module(name)
assert not sys.modules["torch"].cuda.is_initialized()
assert not acts, acts
"""
    assert in_a_process(code) == ""
