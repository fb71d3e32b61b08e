"""Threads give way to a neighbour, and the results stay the same to the last bit."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest

from kernels.cpu.machine import threads
from kernels.cpu.machine.threads import Usage, free_threads

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fresh(monkeypatch):
    """A state of its own, a Numba that only remembers what it is told, and a clock that is moved by hand."""
    told, clock, seen = [2], [0.0], [Usage(0.0, 0.0, 0.0)]
    monkeypatch.setattr(threads, "_state", threads._State())
    monkeypatch.setattr(threads, "_start", seen[0])
    monkeypatch.setattr(threads, "usage", lambda: seen[-1])
    monkeypatch.setattr(threads, "_now", lambda: clock[0])
    monkeypatch.setattr(threads, "_cores", lambda: {0, 1})
    monkeypatch.setattr(numba, "get_num_threads", lambda: told[-1])
    monkeypatch.setattr(numba, "set_num_threads", told.append)

    def second(others, own):
        clock[0] += 1.0
        last = seen[-1]
        seen.append(Usage(clock[0], last.everyone + others + own, last.own + own))

    return told, second


@pytest.mark.parametrize(
    ("others", "cores", "shares", "expected"),
    [
        (0.0, 2, 2, 2), (0.25, 2, 2, 2), (0.5, 2, 2, 1), (1.0, 2, 2, 1), (5.0, 2, 2, 1),
        (-0.2, 2, 2, 2),  # the clocks of the two counts tick apart
        (1.0, 8, 8, 7), (1.0, 8, 2, 2), (3.6, 8, 8, 4), (0.0, 1, 1, 1),
    ],
)  # fmt: skip
def test_as_many_threads_as_free_cores(others, cores, shares, expected):
    before, now = Usage(10.0, 100.0, 50.0), Usage(11.0, 101.5 + others, 51.5)
    assert free_threads(before, now, cores, shares) == expected


def test_a_neighbour_comes_and_goes(fresh):
    told, second = fresh
    assert threads.shares() == 2
    second(others=1.0, own=1.0)
    assert threads.shares() == 2 and told[-1] == 1
    second(others=1.0, own=1.0)
    assert threads.shares() == 2 and told[-1] == 1
    second(others=0.0, own=1.0)
    assert threads.shares() == 2 and told == [2, 1, 2]


def test_whoever_sets_the_number_is_obeyed(fresh):
    told, second = fresh
    second(others=1.0, own=0.0)
    assert threads.shares() == 2 and told[-1] == 1
    threads.cut_into(3)
    assert threads.shares() == 3
    told.append(2)  # numba.set_num_threads, past us
    assert threads.shares() == 2
    told.append(1)
    second(others=0.0, own=0.0)
    assert threads.shares() == 1 and told[-1] == 1


def test_it_does_not_look_more_often_than_it_can_tell(fresh, monkeypatch):
    _, second = fresh
    looks = []
    monkeypatch.setattr(threads, "usage", lambda: looks.append(1))
    for _ in range(5):
        threads.shares()
    assert not looks
    second(others=0, own=0)
    threads.shares()
    assert len(looks) == 1


def test_what_the_system_says():
    first = threads.usage()
    if first is None:
        pytest.skip("no /proc/stat")
    total = sum(range(10**6))  # something is used
    again = threads.usage()
    assert total and again.moment > first.moment and again.own > first.own and again.everyone >= first.everyone


@pytest.mark.parametrize("trouble", [OSError, AttributeError])
def test_where_the_system_does_not_say(monkeypatch, trouble):
    def refuse():
        raise trouble

    monkeypatch.setattr(threads, "_cores", refuse)
    assert threads.usage() is None


def test_each_thread_of_python_has_its_own(fresh):
    threads.cut_into(2)
    found = []
    thread = threading.Thread(target=lambda: found.append(threads._state.wanted))
    thread.start()
    thread.join()
    assert found == [0] and threads._state.wanted == 2


STEPS = """
import hashlib, sys
import numba, numpy as np
from kernels.cpu.machine import threads
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.synthetic import batch
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import zero_velocity

threads.cut_into(2)
if sys.argv[1] == "gives way":  # two shares, one thread
    numba.set_num_threads(1)
    threads._state.given = 1
config = presets.PRESET()
model = MaskRCNN(config)
velocity = zero_velocity(model.params, config)
for step in range(2):
    train_step(model, batch((96, 64), config), velocity, step=step, rng=np.random.default_rng(step))
digest = hashlib.sha256()
for name in sorted(model.params):
    digest.update(np.ascontiguousarray(model.params[name]).tobytes())
assert threads.shares() == 2
print(digest.hexdigest())
"""


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_fewer_threads_same_bits(preset):
    # compiled even where the tests run the kernels as plain Python, which would take hours
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    variables |= {"MRCNN_NP_GIVE_WAY": "0", "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}
    digests = [
        subprocess.run(
            [sys.executable, "-c", STEPS.replace("PRESET", preset), how],
            env=variables, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for how in ("both work", "gives way")
    ]  # fmt: skip
    assert digests[0] == digests[1] != ""
