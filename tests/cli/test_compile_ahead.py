"""Helpers compile from the last call of a training step backwards, while the command begins with the first."""

import subprocess
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from numba.core import event

import kernels
from kernels.cpu.machine.once import Busy
from mrcnn_np import presets
from mrcnn_np.cli import compile_ahead, first_run
from mrcnn_np.cli.compile_ahead import Call, calls_of, compile_calls, compiling_ahead, helpers_for, in_turn, kind

CONFIG = presets.tiny(num_classes=2, image_min_size=64, image_max_size=64, batch_size=1)


@pytest.mark.parametrize(("cores", "variable", "expected"), [(1, "3", 0), (2, "3", 1), (16, "3", 3), (16, "0", 0)])
def test_a_helper_for_every_core_that_is_left(monkeypatch, cores, variable, expected):
    monkeypatch.setenv("MRCNN_NP_COMPILE_AHEAD", variable)
    assert helpers_for(CONFIG, cores) == expected
    assert helpers_for(presets.torchvision(), cores) == min(1, expected)  # each takes 1.1 GB


@pytest.mark.parametrize("text", ["", "-1", "all"])
def test_a_number_that_is_none(monkeypatch, text):
    monkeypatch.setenv("MRCNN_NP_COMPILE_AHEAD", text)
    with pytest.raises(ValueError, match=r"MRCNN_NP_COMPILE_AHEAD is .*; expected the number of helpers, 0 for none"):
        helpers_for(CONFIG, 4)


def test_calls_are_of_a_kind_if_the_same_code_serves_them():
    a, b = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert kind((a, {"w": [a]}, 2, None)) == kind((b, {"w": [b]}, 2, None))
    for other in (a.T, a.astype(np.float64), a[:1]):
        assert kind(other) != kind(a)
    assert kind(1) != kind(2) and kind(1.0) == kind(2.0) and kind("mean") != kind("max")


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="the kernels would run without their compiler")
def test_a_helper_knows_all_calls_of_the_command():
    """Those of a step and a detection in NumPy are those on the kernels: of the same names, and nearly all shapes."""

    def key(name, args, options):
        # how many boxes are left depends on the last digits of scores that are all alike
        free = name in ("batched_nms", "decode_boxes", "roi_align", "roi_align_backward", "sigmoid", "paste_into_boxes")
        return (name,) if free else (name, kind(args), kind(options))

    seen = set()
    with kernels.use("cpu"), kernels.watch(lambda name, args, options, *rest: seen.add(key(name, args, options))):
        first_run.warm_up(CONFIG)
    known = {key(*call) for call in calls_of(CONFIG)}
    # which asks whether all is finite, where NumPy asks in its own way; clip_gradients takes it, too
    assert {name for name, *_ in seen} == {name for name, *_ in known} | {"global_norm"}
    assert len(seen - known) <= 0.1 * len(seen), {k[0] for k in seen - known}


def test_helpers_begin_at_several_places_from_the_end():
    calls = [Call(str(i), (), {}) for i in range(6)]
    names = ["".join(call.name for call in in_turn(calls, part, 3)) for part in range(3)]
    assert names == ["543210", "321054", "105432"]


def test_what_another_process_compiles_is_tried_again(monkeypatch):
    done, busy = [], {"b": 2, "c": 1}

    def named(name):
        def call(x):
            if busy.get(name, 0):
                busy[name] -= 1
                raise Busy(name)
            done.append((name, x, kernels.backend()))

        return call

    monkeypatch.setattr(kernels, "named", named)
    compile_calls([Call(name, (1,), {}) for name in "abc"], pause=0.0)
    assert done == [("a", 1, "cpu"), ("c", 1, "cpu"), ("b", 1, "cpu")]


def compile_something():
    data = {"dispatcher": SimpleNamespace(py_func=compile_something)}
    with event.trigger_event("numba:compile", data=data):
        pass


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(compile_ahead, "cpu_count", lambda: 8)
    monkeypatch.setenv("MRCNN_NP_COMPILE_AHEAD", "2")
    monkeypatch.setattr("kernels.cpu.KEPT", True)


def test_helpers_start_with_the_first_kernel_and_end_with_the_command(many_cores):
    with kernels.use("cpu"), compiling_ahead(CONFIG) as started:
        assert started == []
        compile_something()
        compile_something()
        assert len(started) == 2 and all(helper.poll() is None for helper in started)
    assert all(helper.poll() is not None for helper in started)


@pytest.mark.parametrize("why", ["numpy", "not kept", "ranks"])
def test_nothing_is_started_where_it_is_of_no_use(many_cores, monkeypatch, why):
    if why == "not kept":
        monkeypatch.setattr("kernels.cpu.KEPT", False)
    backend = "numpy" if why == "numpy" else "cpu"
    with kernels.use(backend), compiling_ahead(CONFIG, wanted=why != "ranks") as started:
        compile_something()
        assert started == []


def test_a_helper_ends_with_its_input():
    """However the command ends, killed or not."""
    helper = compile_ahead._start(CONFIG, 0, 1)
    helper.stdin.close()
    assert helper.wait(timeout=60) == 0


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="the kernels would run without their compiler")
def test_a_helper_does_all_calls(tmp_path):
    """With kernels that are there already, as after ``warm_up``, it comes to its end by itself."""
    first_run.warm_up(CONFIG)
    helper = compile_ahead._start(CONFIG, 0, 1)
    try:
        assert helper.wait(timeout=300) == 0
    except subprocess.TimeoutExpired:
        helper.kill()
        raise
