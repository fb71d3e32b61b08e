"""Every kernel is compiled by one process at a time; the others read what it wrote."""

import importlib.util
import os
import subprocess
import sys

import numba
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher

from kernels.cpu.machine import once

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

MODULE = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x

@njit(cache=True)
def helped(x):
    return twice(x) + 1

@njit(cache=True)
def wrong(x):
    return x.no_such_thing
"""

HOLDER = (
    "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)

RACER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import some_kernels
from numba.core import event
from kernels.cpu.machine.once import compile_once

class Slowly(event.Listener):
    def on_start(self, event): time.sleep(1)
    def on_end(self, event): pass

assert compile_once(dict(sys.modules), "some_kernels") == 3
print("ready", flush=True)
input()
with event.install_listener("numba:compile", Slowly()):
    assert some_kernels.helped(20) == 41
print(len(some_kernels.helped.stats.cache_misses), len(some_kernels.helped.stats.cache_hits))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Three functions, compiled into a folder of their own."""
    path = tmp_path / "some_kernels.py"
    path.write_text(MODULE)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(once, "_held", {})
    spec = importlib.util.spec_from_file_location("some_kernels", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert once.compile_once({"some_kernels": loaded}, "some_kernels") == 3
    return loaded


@pytest.fixture
def held(module):
    """Another process compiles ``twice``."""
    path = module.twice._cache._path()
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def compilations():
    """Return a listener and the names it gathers."""
    names = []

    class Listener(event.Listener):
        def on_start(self, event):
            names.append(event.data["dispatcher"].py_func.__name__)

        def on_end(self, event):
            pass

    return event.install_listener("numba:compile", Listener()), names


def test_all_kernels_are_compiled_once():
    modules = [module for name, module in sys.modules.items() if name.startswith("kernels.cpu")]
    kernels = {
        f"{k.py_func.__module__}.{k.py_func.__name__}": k
        for module in modules
        for k in vars(module).values()
        if isinstance(k, Dispatcher)
    }
    assert len(kernels) > 80
    assert {name for name, k in kernels.items() if not isinstance(k._cache, once.CompiledOnce)} == set()


def test_two_processes_compile_a_kernel_once(tmp_path, module):
    """The second waits for the first, and reads the kernel and its helper."""
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "other")}
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = sorted(racer.communicate(timeout=120)[0].split() for racer in racers)
    assert answers == [["0", "1"], ["1", "0"]]  # (misses, hits)


def test_who_must_not_wait_is_told(module, held):
    with once.without_waiting(), pytest.raises(once.Busy, match="twice"):
        module.twice(3)
    assert not once._held
    held.kill()
    held.wait()
    with once.without_waiting():
        assert module.twice(3) == 6


def test_a_helper_is_waited_for_and_the_wait_counts_as_compiling(module, held, monkeypatch):
    """A kernel is being compiled here: the locks it takes on the way are waited for, ``Busy`` would ruin it."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            held.kill()
            held.wait()

    monkeypatch.setattr(once.time, "sleep", sleep)
    listener, names = compilations()
    with listener, once.without_waiting():
        assert module.helped(3) == 7
    assert names == ["helped", "twice", "twice"] and len(slept) >= 3
    assert not once._held


def test_patience_ends(module, held, monkeypatch):
    """A process that hangs while it holds the lock stops nobody for ever."""
    monkeypatch.setattr(once, "PATIENCE", 0.05)
    assert module.twice(3) == 6
    assert held.poll() is None and not once._held


def test_an_error_in_a_kernel_comes_up_each_time(module):
    """The lock of a compilation that failed stays with this process, and does not stop it."""
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            module.wrong(1)
    assert module.helped(1) == 3


def test_a_folder_that_cannot_be_written_is_no_obstacle(module, monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *args: (_ for _ in ()).throw(PermissionError()))
    assert module.twice._cache._lock(wait=True) and not once._held


def test_without_locks_everybody_compiles(module, held, monkeypatch):
    monkeypatch.setattr(once, "fcntl", None)
    with once.without_waiting():
        assert module.twice(3) == 6
