"""Timelines: the arithmetic by loops that count, slices that add up, and what is written of them. No time is judged."""

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from bench_results import bench, check_quiet

from kernels import use, watch
from mrcnn_np import model, presets
from mrcnn_np.bench.quiet import MARK
from mrcnn_np.bench.timeline import page, picture
from mrcnn_np.bench.timeline.measure import image_size, record
from mrcnn_np.bench.timeline.record import PARTS, WIRING, Recorder, Slice, medians
from mrcnn_np.bench.timeline.work import Call, arithmetic, arrays, layer_of, least_arithmetic, shape_of, traffic
from mrcnn_np.model import MaskRCNN
from mrcnn_np.ops.activation import relu
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from mrcnn_np.ops.fused import conv2d_fused, conv2d_fused_backward
from mrcnn_np.ops.linear import linear, linear_backward
from mrcnn_np.synthetic import params_that_detect
from mrcnn_np.training import loop

PEAK = {"gflops": 100.0, "gbytes": 10.0}
SIZE = (128, 128)


def ones(*shape):
    return np.ones(shape, np.float32)


def call_of(function, *args, **kwargs):
    """Run an operation and return its call as the watcher sees it."""
    seen = []
    with watch(lambda name, args, kwargs, result, began, ended: seen.append(Call(name, args, kwargs, result))):
        function(*args, **kwargs)
    (call,) = seen
    return call


# --- what a call has to do --------------------------------------------------------------------------------------------


def multiply_adds(x, w, stride, padding, groups):
    """Count the multiply-adds of a convolution one by one."""
    (n, rows, columns, _), (kh, kw, c_in, c_out) = x.shape, w.shape
    count = 0
    for _ in product(
        range(n),
        range(0, rows + 2 * padding - kh + 1, stride),
        range(0, columns + 2 * padding - kw + 1, stride),
        range(groups),
    ):
        for _ in product(range(kh), range(kw), range(c_in), range(c_out // groups)):
            count += 1
    return count


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (1, 1, 1), (2, 1, 1), (1, 1, 2), (2, 0, 4)])
@pytest.mark.parametrize(("forward", "backward"), [(conv2d, conv2d_backward), (conv2d_fused, conv2d_fused_backward)])
def test_arithmetic_of_convolutions(forward, backward, stride, padding, groups):
    x, w = ones(2, 5, 7, 4), ones(3, 2, 4 // groups, 8)
    call = call_of(forward, x, w, stride=stride, padding=padding, groups=groups)
    once = 2 * multiply_adds(x, w, stride, padding, groups)
    assert arithmetic(call) == once
    y, cache = call.result
    assert arithmetic(call_of(backward, y, cache)) == 2 * once
    assert arithmetic(call_of(backward, y, cache=cache)) == 2 * once
    assert arithmetic(call_of(backward, dy=y, cache=cache)) == 2 * once
    assert arithmetic(call_of(backward, y, cache, need_dx=False)) == once


def test_arithmetic_of_transposed_convolutions_and_linear_layers():
    x, w = ones(3, 4, 5, 6), ones(2, 2, 6, 7)
    call = call_of(conv2d_transpose, x, w, ones(7), activate=True)
    once = 2 * 3 * 4 * 5 * 6 * 7 * 2 * 2  # each cell of x meets each weight of its channel
    assert arithmetic(call) == once
    assert arithmetic(call_of(conv2d_transpose_backward, *call.result)) == 2 * once
    call = call_of(linear, ones(10, 30), ones(30, 20), ones(20))
    assert arithmetic(call) == 2 * 10 * 30 * 20
    assert arithmetic(call_of(linear_backward, *call.result)) == 4 * 10 * 30 * 20
    assert arithmetic(call_of(relu, x)) == 0


@pytest.mark.parametrize(("size", "stride", "factor"), [(3, 1, 4), (3, 2, 1), (1, 1, 1), (5, 1, 1)])
def test_winograd_leaves_a_quarter_of_a_convolution_of_3x3_with_stride_1(size, stride, factor):
    call = call_of(conv2d, ones(1, 9, 9, 4), ones(size, size, 4, 8), stride=stride)
    assert least_arithmetic(call) * factor == arithmetic(call) > 0
    back = call_of(conv2d_backward, *call.result)
    assert least_arithmetic(back) * factor == arithmetic(back) > 0
    assert least_arithmetic(call_of(linear, ones(10, 30), ones(30, 20))) == 2 * 10 * 30 * 20


def test_the_limit_of_a_run():
    """Ten seconds of arithmetic at 100 GFLOP/s, of which a quarter of six, and four, are left."""
    flop = 100 * 10**9
    slices = [
        Slice("fpn", "conv2d", "", "", 9.0, 6 * flop, 0, 6 * flop // 4),
        Slice("fpn", "linear", "", "", 5.0, 4 * flop, 0, 4 * flop),
    ]
    assert "takes 5500 ms at that peak" in page.limit({"slices": [asdict(one) for one in slices]}, PEAK)


def test_arithmetic_of_nothing():
    assert arithmetic(call_of(conv2d, ones(0, 5, 5, 3), ones(3, 3, 3, 4))) == 0
    assert arithmetic(call_of(linear, ones(0, 5), ones(5, 3))) == 0


def test_bytes_are_counted_once():
    big = ones(10, 100)
    assert traffic(Call("f", (big, [big, {"again": big}]), {"and": (big,)}, None)) == 4000
    assert traffic(Call("f", (big,), {}, ones(3))) == 4012
    assert traffic(Call("f", (big[:3], big[3:5]), {}, None)) == 2000  # two parts of one array
    assert traffic(Call("f", (big, big[:3], big[2:]), {}, big.T)) == 4000  # never more than all of it
    assert traffic(Call("f", (np.broadcast_to(ones(1), (1000,)),), {}, None)) == 4
    assert traffic(Call("f", (ones(0, 4), 3, "text", None), {}, None)) == 0
    x, w = ones(1, 4, 4, 2), ones(1, 1, 2, 3)
    call = call_of(conv2d, x, w)
    assert traffic(call) == x.nbytes + w.nbytes + call.result[0].nbytes
    assert len(list(arrays(call.result))) == 3


def test_layers_are_known_by_their_parameters():
    w, b, x = ones(1, 1, 2, 3), ones(3), ones(1, 4, 4, 2)
    names = {id(w): "fpn.output2", id(b): "fpn.output2"}
    call = call_of(conv2d, x, w, b)
    assert layer_of(call, names) == "fpn.output2" and shape_of(call) == "1x4x4x3"
    assert layer_of(call_of(conv2d_backward, *call.result), names) == "fpn.output2"
    assert layer_of(call_of(conv2d, x, w[:, :, :, :2]), names) == "fpn.output2"
    assert layer_of(call_of(relu, x), names) == ""
    assert layer_of(Call("momentum_step", ({"fpn.output2.w": w},), {}, None), names) == ""
    assert shape_of(Call("momentum_step", ({"fpn.output2.w": w},), {}, None)) == "1x1x2x3"
    assert shape_of(Call("f", (), {}, 1.0)) == ""


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    config = presets.tiny(learning_rate=1e-6, batch_size=1)
    params = params_that_detect(config)
    return config, MaskRCNN(config, params)


@pytest.fixture(scope="module")
def found(tiny):
    runs = []
    for what in ("detect", "train"):
        cut, seconds = record(what, *tiny, SIZE, 2)
        task = {"preset": "tiny", "what": what, "size": SIZE, "threads": 1, "quiet": None}
        runs.append({**task, "seconds": seconds, "slices": [asdict(one) for one in cut]})
    return {"peak": PEAK, "runs": runs}


def test_a_run_has_the_layers_and_parts_of_the_network(found, tiny):
    _, network = tiny
    layers = {name.rpartition(".")[0] for name in network.params}
    for run in found["runs"]:
        seen = {one["layer"] for one in run["slices"]} - {""}
        # in inference a norm is part of its convolution
        assert seen == layers if run["what"] == "train" else seen == {n for n in layers if ".bn" not in n}
        assert {one["part"] for one in run["slices"]} <= {*PARTS, WIRING}
    detect, train = ({one["part"] for one in run["slices"]} for run in found["runs"])
    assert {"mold_image", "backbone", "propose", "refine", "paste_masks"} <= detect
    assert {"mold_image", "roi_targets", "head_mask_loss", "head_mask_loss_backward", "backbone_backward"} <= train
    assert {"require_finite", "clip_gradients", "update"} <= train
    assert {part for part in detect if part.endswith("_backward")} == set()


def test_layers_stand_in_their_parts(found):
    for one in (one for run in found["runs"] for one in run["slices"] if one["layer"]):
        begin = one["layer"].split(".")[0].removesuffix("_head")
        assert one["part"].removesuffix("_backward").removesuffix("_head") == begin
        assert one["part"].endswith("_backward") == one["op"].endswith("_backward")


def test_parts_and_what_lies_between_add_up_to_the_whole(tiny):
    for what in ("detect", "train"):
        cut, (seconds,) = record(what, *tiny, SIZE, 1)
        rows = page.parts({"slices": [asdict(one) for one in cut]}, PEAK)
        assert sum(row.seconds for row in rows) == pytest.approx(seconds)
        kernels = sum(one.seconds for one in cut if one.op)
        between = sum(one.seconds for one in cut if not one.op)
        assert kernels + between == pytest.approx(seconds) and min(one.seconds for one in cut) >= 0
        assert sum(row.between for row in rows) == pytest.approx(between)
        assert 0 < between < seconds


def test_the_arithmetic_of_a_whole_step(found):
    """A gradient of every layer takes twice the forward pass, but for the stem, which needs none of the image."""
    slices = found["runs"][1]["slices"]
    flop = {}
    for one in slices:
        if one["flop"]:
            forward, backward = flop.setdefault(one["layer"], [0, 0])
            flop[one["layer"]] = [forward + one["flop"] * (not one["op"].endswith("_backward")),
                                  backward + one["flop"] * one["op"].endswith("_backward")]  # fmt: skip
    assert len(flop) > 20
    for layer, (forward, backward) in flop.items():
        assert backward == (1 if layer == "backbone.stem.conv" else 2) * forward, layer


@pytest.mark.parametrize(
    ("preset", "changes", "part"),
    [
        ("tiny_c4", {}, "c5_head"),
        ("tiny", {"keypoints": 3}, "keypoint_head"),
        ("tiny", {"mask_branch": False}, "box_head"),
        ("tiny", {"bn_mode": "frozen"}, "backbone"),
    ],
)
def test_other_networks(preset, changes, part):
    config = presets.by_name(preset, learning_rate=1e-6, batch_size=1, **changes)
    network = MaskRCNN(config, params_that_detect(config))
    layers = {name.rpartition(".")[0] for name in network.params}
    for what, last in (("detect", ""), ("train", "_backward")):
        cut, _ = record(what, config, network, SIZE, 1)
        assert f"{part}{last}" in {one.part for one in cut}
        seen = {one.layer for one in cut if one.op} - {""}
        assert {name for name in layers if ".bn" not in name} <= seen <= layers
        assert all(picture.group(one.part) for one in cut if one.part != WIRING)


def test_parts_are_functions_of_the_network():
    missing = {name for name in PARTS if name not in vars(model) and name not in vars(loop)}
    assert missing == set()
    assert {name for name in PARTS if picture.group(name) is None} == set()
    assert picture.group(WIRING) is None


def functions():
    return {(m.__name__, name): vars(m)[name] for m in (model, loop) for name in PARTS if name in vars(m)}


def test_recording_leaves_nothing_behind(tiny):
    before, recorder = functions(), Recorder(tiny[1].params)
    with pytest.raises(ZeroDivisionError), recorder.recording(), recorder.part("fpn"):
        assert functions() != before
        raise ZeroDivisionError
    count = len(recorder.slices)
    relu(ones(3))
    tiny[1].detect([np.zeros((*SIZE, 3), np.uint8)])
    assert len(recorder.slices) == count and recorder.now == WIRING
    assert functions() == before


def test_a_part_within_a_part_is_the_outer_one():
    recorder = Recorder({})
    with use("cpu"), recorder.recording(), recorder.part("backbone"):
        relu(ones(3))
        with recorder.part("fpn"):
            relu(ones(2))
    calls = [one for one in recorder.slices if one.op]
    assert [(one.part, one.op, one.shape) for one in calls] == [("backbone", "relu", "3"), ("backbone", "relu", "2")]


def test_medians_are_of_the_same_slice():
    def run(*seconds):
        keys = [("fpn", ""), ("fpn", "relu"), ("fpn", ""), ("fpn", "relu")]
        return [Slice(part, op, "", "", second) for (part, op), second in zip(keys, seconds)]

    cut = medians([run(1, 10, 100, 1000), run(3, 30, 300, 3000), run(2, 20, 200, 2000)])
    assert [one.seconds for one in cut] == [2, 20, 200, 2000]
    assert [one.seconds for one in medians([run(1, 10, 100, 1000), run(3, 30)])] == [2, 20, 100, 1000]


# --- what is written --------------------------------------------------------------------------------------------------


def test_floors():
    slow = asdict(Slice("fpn", "conv2d", "fpn.output2", "1", 1.0, flop=20 * 10**9, nbytes=10**9))
    assert page.floor(slow, PEAK) == pytest.approx(0.2)
    assert page.floor({**slow, "nbytes": 5 * 10**9}, PEAK) == pytest.approx(0.5)
    assert page.floor(asdict(Slice("fpn", "", "", "", 1.0)), PEAK) == 0


def test_what_costs_most_comes_first():
    slices = [
        Slice("fpn", "", "", "", 0.3),
        Slice("fpn", "conv2d", "fpn.output2", "1", 1.0, flop=90 * 10**9),  # 0.1 above its floor
        Slice("fpn", "", "", "", 0.1),
        Slice("rpn_head", "conv2d", "rpn.conv", "1", 0.5, flop=10**9),  # 0.49
        Slice(WIRING, "", "", "", 0.2),
    ]
    rows = page.costliest({"slices": [asdict(one) for one in slices]}, PEAK)
    assert [(row.part, row.op) for row in rows][:4] == [
        ("rpn_head", "conv2d"), ("fpn", page.BETWEEN), (WIRING, page.BETWEEN), ("fpn", "conv2d"),
    ]  # fmt: skip
    assert [row.seconds for row in rows][:3] == pytest.approx([0.5, 0.4, 0.2])


def test_the_page_has_every_part_and_every_layer(found):
    text = page.write(found)
    detect, train = text.split("\n## ")[1:]
    for run, part in zip(found["runs"], (detect, train)):
        by_part, most, all_calls = part.split("\n\n|")[1:]
        lines = by_part.split("\n\n")[0].splitlines()
        names = [line.split(" | ")[0].strip("| ") for line in lines[2:]]
        assert sorted(names[:-2]) == sorted({one["part"] for one in run["slices"]})
        assert page.BETWEEN in by_part and "**whole**" in by_part and "100 %" in by_part
        assert len(most.split("\n\n")[0].splitlines()) == page.MOST + 2
        calls = sum(bool(one["op"]) for one in run["slices"])
        assert len([line for line in all_calls.splitlines() if page.BETWEEN not in line and line]) == calls + 2
    assert MARK not in text
    assert page.NOT_QUIET in page.write({**found, "runs": [{**run, "quiet": False} for run in found["runs"]]})
    assert page.NOT_QUIET in page.write({**found, "quiet": False})
    section = page.section(found)
    assert section.startswith("## Timeline\n") and "timeline.md" in section and len(section) < len(text)


def test_picture(found, tmp_path):
    machine = {"processor": "a processor", "threads": 1}
    first = picture.draw(tmp_path / "a.png", found, machine).read_bytes()
    assert first == picture.draw(tmp_path / "b.png", found, machine).read_bytes() and first.startswith(b"\x89PNG")


def test_command(tmp_path):
    results = bench(tmp_path, "--only", "timeline", "--preset", "tiny", "--without-torch")
    timeline = results["timeline"]
    assert [(run["preset"], run["what"]) for run in timeline["runs"]] == [("tiny", "detect"), ("tiny", "train")]
    check_quiet(timeline)
    for run in timeline["runs"]:
        check_quiet(run)
        assert len(run["seconds"]) == 1
        assert sum(one["seconds"] for one in run["slices"]) == pytest.approx(run["seconds"][0])
    assert (tmp_path / "timeline.md").read_text() == page.write(timeline)
    assert "## Timeline" in (tmp_path / "bench.md").read_text()
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "bench.json").read_text())["timeline"]["peak"]["gflops"] > 0


def test_size_of_the_image():
    assert image_size("torchvision", quick=False) == (800, 1088)
    assert image_size("torchvision", quick=True) == (96, 128)
    assert image_size("tiny", quick=False) == SIZE
