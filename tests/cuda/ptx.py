"""Compiles every kernel to PTX and to machine code, without a graphics card, and says what came out.

``ptx_table.json`` beside this file holds what did when it was last written; ``test_ptx.py`` compares. After a change of
a kernel::

    python tests/cuda/ptx.py --rewrite        # all
    python tests/cuda/ptx.py --only roi_align  # print those whose names hold this

It runs in a process of its own, without the simulator.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("ptx_table.json")
DEVICES = {"sm_80": (8, 0), "sm_90": (9, 0)}
TOOLS = ("llvmlite", "numba-cuda", "nvidia-nvjitlink", "nvidia-nvvm")


def versions() -> dict[str, str]:
    """Return which tools compile: with others, numbers of registers differ."""
    python = ".".join(map(str, sys.version_info[:2]))  # whose bytecode is what Numba reads
    return {"python": python} | {tool: importlib.metadata.version(tool) for tool in TOOLS}


def all_kernels() -> dict[str, Any]:
    """Return all kernels by name; as they are for a device, not for the simulator."""
    os.environ["NUMBA_ENABLE_CUDASIM"] = "0"
    import kernels.cuda
    from kernels.cuda.machine.device import REGISTRY

    assert kernels.cuda.KERNELS  # which imports all files, and that fills the registry
    return dict(REGISTRY)


def compile_kernel(kernel: Any) -> dict[str, str]:
    """Return the PTX of one kernel for each device.

    ``compiled.to_ptx`` would infer the types again for each device, which takes most of the time; they are the same.
    """
    from numba.cuda import compiler

    from kernels.cuda.machine import compiled

    how = {"debug": None, "lineinfo": False, "device": False, "fastmath": False, "opt": None, "abi": "numba"}
    how |= {"abi_info": None, "forceinline": False, "launch_bounds": None, "lto": False}
    unknown = set(kernel.options) - set(how)
    if unknown:
        raise ValueError(f"kernel {kernel.name} has options {sorted(unknown)} that are none of the compiler")
    first = next(iter(DEVICES.values()))
    with compiled._target(first):
        library, _ = compiler._compile_pyfunc_with_fixup(
            kernel.function, kernel.signature, cc=first, **how | kernel.options
        )
    texts = {}
    for name, capability in DEVICES.items():
        (texts[name],) = library.get_asm_strs(cc=capability)
        assert f".target {name}" in texts[name]
    return texts


def measure(text: str, device: str) -> dict[str, int]:
    """Assemble PTX; return registers, bytes of memory (shared, of the stack, spilt), and some of its instructions."""
    from kernels.cuda.machine import compiled

    _, log = compiled.link(text, DEVICES[device])
    registers, stack = re.search(r"used (\d+) registers.*? (\d+) stack", log).groups()
    spilt = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log).groups()
    code = re.sub(r"//.*", "", text)
    return {
        "registers": int(registers),
        "shared": sum(map(int, re.findall(r"\.shared [^;]*\[(\d+)\];", code))),
        "stack": int(stack),
        "spilt": sum(map(int, spilt)),
        "loads of 16 bytes": len(re.findall(r"\bld\.\S*v4\.f32", code)),
        "stores of 16 bytes": len(re.findall(r"\bst\.\S*v4\.f32", code)),
        "rounded products": len(re.findall(r"\bmul\.rn\.f", code)),
        "float64": len(re.findall(r"^\s+(?:@\S+ )?[a-z]\S*\.f64\b", code, re.M)),
    }


def table(only: str = "") -> dict[str, Any]:
    """Compile all kernels there are, or those whose names hold ``only``."""
    rows = {}
    for name, kernel in sorted(all_kernels().items()):
        if only in name:
            try:
                rows[name] = {device: measure(text, device) for device, text in compile_kernel(kernel).items()}
            except Exception as error:
                raise RuntimeError(f"kernel {name} does not compile") from error
    return {"tools": versions(), "kernels": rows}


def as_text(found: dict[str, Any]) -> str:
    """Write the table, a line for each kernel and device."""
    kernels = []
    for name, rows in found["kernels"].items():
        lines = ",\n".join(f"  {json.dumps(device)}: {json.dumps(row)}" for device, row in rows.items())
        kernels.append(f"{json.dumps(name)}: {{\n{lines}}}")
    return f'{{"tools": {json.dumps(found["tools"])},\n"kernels": {{\n' + ",\n".join(kernels) + "\n}}\n"


def main() -> None:
    """Print the table, or rewrite the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rewrite", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels whose names hold TEXT")
    options = parser.parse_args()
    if options.rewrite and options.only:
        parser.error("--rewrite writes all kernels")
    text = as_text(table(options.only))
    if options.rewrite:
        TABLE.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
