"""Kernels as generators: what stops and goes on where a kernel's threads wait for each other.

A thread of the operating system for each of a kernel's threads is slow: at every barrier two of them change places. So
the text of a kernel is rewritten: each operation at which threads meet (``MEETINGS``) becomes a ``yield`` of its name
and arguments, and a call of a function in which threads meet becomes ``yield from``. All else stays, line numbers too.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

MEETINGS = {"syncthreads", "syncthreads_count", "syncthreads_and", "syncthreads_or", "syncwarp", "ballot_sync"}
MEETINGS |= {"any_sync", "all_sync", "shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync"}


@functools.cache
def as_generator(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the function as a generator of its meetings; None if its threads never meet."""
    if not isinstance(function, FunctionType):
        return None
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    body = tree.body[0]
    if not isinstance(body, ast.FunctionDef):
        return None
    names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    rewriting = _Rewriting(names)
    body = rewriting.visit(body)
    if not rewriting.meets:
        return None
    body.decorator_list, body.returns = [], None
    bound = {name: names[name] for name in function.__code__.co_freevars} | rewriting.generators
    outer = ast.FunctionDef(
        name="_outer",
        args=ast.arguments([], [ast.arg(name) for name in bound], None, [], [], None, []),
        body=[body, ast.Return(ast.Name(body.name, ast.Load()))],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([outer], []))
    found: dict[str, Any] = {}
    exec(compile(module, function.__code__.co_filename, "exec"), function.__globals__, found)
    made: Callable[..., Any] = found["_outer"](**bound)
    return made


class _Rewriting(ast.NodeTransformer):
    """Puts ``yield`` and ``yield from`` in the place of calls."""

    def __init__(self, names: dict[str, Any]):
        self.names = names
        self.generators: dict[str, Any] = {}
        self.meets = False

    def visit_Call(self, call: ast.Call) -> ast.expr:
        """Rewrite one call."""
        self.generic_visit(call)
        called = call.func
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "cuda":
            if called.attr not in MEETINGS:
                return call
            self.meets = True
            request = ast.Tuple([ast.Constant(called.attr), *call.args], ast.Load())
            return ast.copy_location(ast.Yield(request), call)
        if isinstance(called, ast.Name):
            generator = as_generator(self.names[called.id]) if _is_function(self.names.get(called.id)) else None
            if generator is not None:
                self.meets = True
                self.generators[f"_{called.id}_in_turns"] = generator
                call.func = ast.Name(f"_{called.id}_in_turns", ast.Load())
                return ast.copy_location(ast.YieldFrom(call), call)
        return call


def _is_function(value: Any) -> bool:
    return isinstance(value, FunctionType)


def where(generator: Any) -> tuple[str, int]:
    """Return the function and the line in which a generator has stopped."""
    while generator.gi_yieldfrom is not None:
        generator = generator.gi_yieldfrom
    return generator.gi_code.co_name, generator.gi_frame.f_lineno
