"""The house's rules, read from the source: who may import whom, and that importing is no work."""

from __future__ import annotations

import ast
import builtins
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("utils", "data", "model", "report")
# Which parts of the project each part may import. A part is a package or "rooms", the files at
# the top level but for main.py and example.py.
MAY_IMPORT = {
    "utils": {"utils"},
    "data": {"utils", "data"},
    "model": {"utils", "model"},
    "report": {"utils", "report"},
    "rooms": {"utils", "data", "model", "report", "rooms"},
    "benchmarks": {"utils", "data", "model", "report", "rooms", "benchmarks"},
    "main": {"utils", "data", "model", "rooms"},
    "example": {"model"},
}
# What a constant may be made with: functions that only compute.
PURE_MODULES = {"collections", "dataclasses", "enum", "functools", "numpy", "re", "typing"}
ACTING_BUILTINS = {"breakpoint", "compile", "eval", "exec", "__import__", "input", "open", "print"}
OPTIONAL = {"effdet"}  # a peer of the benchmark, which does without it
HEAVY = ("torch", "torchvision", "pytorch_lightning", "matplotlib", "numpy")


def source_files() -> list[Path]:
    folders = [ROOT, *(ROOT / name for name in (*PACKAGES, "benchmarks"))]
    return [path.relative_to(ROOT) for folder in folders for path in sorted(folder.glob("*.py"))]


FILES = source_files()
each_file = pytest.mark.parametrize("file", FILES, ids=str)


def part_of(module: str) -> str | None:
    """The part that a dotted name belongs to; None for a library."""
    top = module.split(".")[0]
    if top in (*PACKAGES, "benchmarks", "main", "example"):
        return top
    return "rooms" if (ROOT / f"{top}.py").is_file() else None


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


def test_every_package_is_looked_at() -> None:
    assert {file.parts[0] for file in FILES} >= {*PACKAGES, "main.py", "trainer.py", "monitor.py"}


@each_file
def test_a_file_imports_only_from_floors_below_its_own(file: Path) -> None:
    part = part_of(module_of(file))
    assert part is not None
    for module in imported_modules(tree_of(file), file):
        other = part_of(module)
        assert other is None or other in MAY_IMPORT[part], f"{file} imports {module}"


@each_file
def test_only_main_imports_a_room_that_launches(file: Path) -> None:
    launching = {
        module_of(other)
        for other in FILES
        if len(other.parts) == 1
        and any(isinstance(n, ast.FunctionDef) and n.name == "launch" for n in tree_of(other).body)
    }
    assert {"trainer", "monitor"} <= launching
    if module_of(file) != "main" and file.parts[0] != "benchmarks":
        assert not imported_modules(tree_of(file), file) & launching


@each_file
def test_nothing_below_the_rooms_takes_a_config(file: Path) -> None:
    if file.parts[0] in ("data", "model") or file.parts[0] == "example.py":
        imported = imported_modules(tree_of(file), file)
        assert not imported & {"utils.config", "utils.config_file"}


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


def is_main_or_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")


def is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return is_main_or_type_checking(node)
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
            library = name in source and part_of(source[name]) is None
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
    libraries = {m for f in FILES for m in imported_modules(tree_of(f), f) if part_of(m) is None}
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
