"""What the sources say about themselves: modules, their imports, their names, and what the documents mention."""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("mrcnn_np", "kernels")


class Import(NamedTuple):
    """One module imports another of ours; ``late`` if it does so inside a function."""

    importer: str
    imported: str
    late: bool


def dotted(path: Path) -> str:
    """Return the name under which a source file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    """Return every module of the packages: ``mrcnn_np.ops.conv`` -> its path."""
    return {dotted(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path, name: str) -> list[tuple[str, bool]]:
    """Return what a file imports, relative names resolved, as (module or module.name, inside a function?)."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, late: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, late) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - child.level + 1]) if child.level else ""
                base = ".".join(part for part in (base, child.module) if part)
                found.extend((f"{base}.{alias.name}", late) for alias in child.names)
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(("import_module", "__import__")):
                found.extend((name, late) for name in _named_by(child, package))
                visit(child, late)
            else:
                visit(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(tree(path), False)
    return found


def _named_by(call: ast.Call, package: str) -> list[str]:
    """Return the modules that ``import_module`` can name: a text, or by a formatted one all beside the caller."""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant):
        name = str(first.value)
        return [f"{package}{name}" if name.startswith(".") else name]
    if isinstance(first, ast.JoinedStr) and ast.unparse(first)[2:3] == ".":
        return [name for name in modules() if name.rpartition(".")[0] == package]
    return []


def module_of(name: str) -> str | None:
    """Return the module that ``module.name`` lies in: itself, or what stands before its last dots."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


@functools.cache
def imports() -> list[Import]:
    """Return every import of one of our modules by another. That importing a.b runs a/__init__ does not count."""
    edges = set()
    for name, path in modules().items():
        for target, late in imported(path, name):
            to = module_of(target)
            if to is not None and to != name:
                edges.add(Import(name, to, late))
    return sorted(edges)


def cycles(edges: set[tuple[str, str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other: strongly connected components of more than one."""
    reach: dict[str, set[str]] = {}
    for start in {a for a, _ in edges}:
        todo, seen = [start], set()
        while todo:
            node = todo.pop()
            for a, b in edges:
                if a == node and b not in seen:
                    seen.add(b)
                    todo.append(b)
        reach[start] = seen
    groups: list[set[str]] = []
    for node in sorted(reach):
        group = {other for other in reach[node] if node in reach.get(other, set())}
        if group and group not in groups:
            groups.append(group)
    return groups


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Return what a module defines or imports at its top, and ``Class.name`` for what stands in a class or on self."""
    names: set[str] = set()
    for node in tree(path).body:
        names |= _bound(node)
        if isinstance(node, ast.ClassDef):
            inside = {n for child in ast.walk(node) for n in _bound(child)}
            inside |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            names |= inside | {f"{node.name}.{n}" for n in inside}
        elif isinstance(node, ast.If | ast.Try | ast.With):
            names |= {n for child in ast.walk(node) for n in _bound(child)}
    return frozenset(names)


def _bound(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return set()


def does_something(path: Path) -> bool:
    """Say whether a file defines anything; an ``__init__`` that only describes its folder does not."""
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign) for node in tree(path).body)


def prose(path: Path) -> str:
    """Return what a file says to its reader: a document whole, of a source its docstrings and comments."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said = [ast.get_docstring(node) or "" for node in ast.walk(tree(path)) if isinstance(node, nodes)]
    return "\n".join(said + re.findall(r"(?:^|\s)(#[ :].*)", text))


def documents() -> list[Path]:
    """Return every page for readers."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "tutorial").glob("*.md"))]


def scripts() -> list[Path]:
    """Return the lessons and what they share."""
    return sorted((ROOT / "tutorial").glob("*.py"))
