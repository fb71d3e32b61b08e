"""Kernels for a graphics card, compiled without one: what a launch hands over is what the machine code takes."""

import importlib.util
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or os.environ.get("NUMBA_ENABLE_CUDASIM") == "1",
    reason="the package numba-cuda is not installed (extra 'cuda'), or its simulator is on",
)
pytestmark = needs_numba_cuda


class Fake:
    """What a launch asks of an array of CuPy's."""

    def __init__(self, host, address):
        import types

        self.dtype, self.shape, self.size = host.dtype, host.shape, host.size
        self.data = types.SimpleNamespace(ptr=address)
        self._c_contiguous = True


def every_type():
    from kernels.cuda.machine.device import Kernel, cuda

    def body(a, b, c, d, e, f, g, h):
        i = cuda.grid(1)
        if g and i < d:
            a[i, 0, 0] = b[i] * e + c[i, 1] + f + h[i, 0]

    types = ("f4[:,:,::1]", "f4[::1]", "i4[:,::1]", "i4", "f4", "i8", "b1", "b1[:,::1]")
    return Kernel(body, types, "every_type", {"launch_bounds": 64})


def test_arguments_lie_as_the_code_expects():
    import numpy as np

    from kernels.cuda.machine import compiled

    kernel = every_type()
    name, parameters = compiled.entry(compiled.to_ptx(kernel, (9, 0)))
    sizes = [int(kind[1:]) // 8 for kind in parameters]
    offsets, at = [], 0
    for size in sizes:
        at = -(-at // size) * size
        offsets.append(at)
        at += size
    arrays = {0: np.zeros((3, 4, 5), np.float32), 1: np.zeros((2, 7), np.float32), 2: np.zeros((2, 3), np.int32)}
    arrays[7] = np.zeros((2, 2), bool)
    args = [Fake(arrays[i], 1000 + i) if i in arrays else [7, 1.5, 1 << 40, True][i - 3] for i in range(8)]
    block = compiled.Block(kernel)
    block.fill(tuple(args))
    packed = block.memory.raw
    assert len(packed) == at and name
    read = [packed[start : start + size] for start, size in zip(offsets, sizes, strict=True)]
    numbers = [int.from_bytes(part, "little") for part in read]
    assert numbers[:11] == [0, 0, 60, 4, 1000, 3, 4, 5, 80, 20, 4]
    assert numbers[11:18] == [0, 0, 14, 4, 1001, 14, 4]  # a flat array
    assert numbers[18:27] == [0, 0, 6, 4, 1002, 2, 3, 12, 4]
    assert numbers[27] == 7 and struct.unpack("f", read[28])[0] == 1.5 and numbers[29:31] == [1 << 40, 1]
    assert numbers[31:] == [0, 0, 4, 1, 1007, 2, 2, 2, 1]
    with pytest.raises(TypeError, match="a kernel expects"):
        block.fill((*args[:7], Fake(arrays[0], 0)))


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_machine_code_is_kept_and_found_again(capability, tmp_path, monkeypatch):
    from kernels.cuda.machine import compiled

    monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
    kernel = every_type()
    code, name = compiled.machine_code(kernel, capability)
    assert code[:4] == b"\x7fELF" and name.encode() in code
    monkeypatch.setattr(compiled, "to_ptx", None)
    assert compiled.machine_code(kernel, capability) == (code, name)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_backend_can_be_imported_without_a_card():
    program = "from kernels.cuda import KERNELS\nfrom kernels.cuda.machine.device import REGISTRY\nprint(len(REGISTRY))"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
