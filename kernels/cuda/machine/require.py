"""Is there a graphics card that the kernels can run on? If not: what is missing, in one sentence."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, NamedTuple

EXTRA = "pip install 'mrcnn-np[cuda]'"
#: compute capability and CUDA of the driver from which on the kernels run: what they are compiled for, and with what
LEAST_CAPABILITY, LEAST_DRIVER = (8, 0), (13, 0)


class Found(NamedTuple):
    """What was found.

    Attributes
    ----------
    missing : tuple of str
        Packages that are not installed.
    driver : (int, int)
        The newest CUDA that the driver knows; (0, 0) without one.
    devices : int
        Graphics cards that the driver shows.
    name : str
        Of the first.
    capability : (int, int)
        Its compute capability.
    """

    missing: tuple[str, ...] = ()
    driver: tuple[int, int] = (0, 0)
    devices: int = 0
    name: str = ""
    capability: tuple[int, int] = (0, 0)


def simulated() -> bool:
    """Tell whether Numba's simulator stands in for the card."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def look() -> Found:
    """Look for packages, driver and cards."""
    missing = tuple(
        package
        for package, module in (("numba-cuda", "numba_cuda"), ("cupy-cuda13x", "cupy"))
        if importlib.util.find_spec(module) is None
    )
    if missing:
        return Found(missing)
    import cupy

    version = int(cupy.cuda.runtime.driverGetVersion())
    driver = version // 1000, version % 1000 // 10
    if driver < LEAST_DRIVER:
        return Found(driver=driver)
    try:
        devices = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:  # with a driver, but without a card
        devices = 0
    if devices == 0:
        return Found(driver=driver)
    device: Any = cupy.cuda.Device(0)
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    capability = str(device.compute_capability)
    return Found(driver=driver, devices=devices, name=name, capability=(int(capability[:-1]), int(capability[-1])))


def why_not(found: Found) -> str | None:
    """Return what keeps the kernels from running; None if nothing does."""
    if found.missing:
        return f"{' and '.join(found.missing)} not installed; expected the extra: {EXTRA}"
    if found.driver == (0, 0):
        return "there is no NVIDIA driver"
    if found.driver < LEAST_DRIVER:
        return f"the NVIDIA driver knows CUDA {_dotted(found.driver)}; expected {_dotted(LEAST_DRIVER)} or newer"
    if found.devices == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"the NVIDIA driver shows no GPU{hint}"
    if found.capability < LEAST_CAPABILITY:
        return (
            f"the GPU {found.name} has compute capability {_dotted(found.capability)}; expected "
            f"{_dotted(LEAST_CAPABILITY)} or newer"
        )
    return None


def require() -> None:
    """Raise ``OSError`` that says what is missing; the simulator needs nothing."""
    reason = None if simulated() else why_not(look())
    if reason is not None:
        raise OSError(reason)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
