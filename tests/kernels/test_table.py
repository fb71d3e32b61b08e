"""The tables of convolutions: each row can go, and what takes over has the same results."""

import re
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import INTERPRETED, draw, error, to_float64

from kernels.cpu import conv as fast
from kernels.cpu import convolution
from kernels.cpu import fused as fast_fused
from kernels.cpu.convolution import direct, measure, winograd_strided
from mrcnn_np.bench.convolution_rows import geometry, main
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose
from mrcnn_np.ops.fused import conv2d_fused, conv2d_fused_backward

NAMES = {"forward": "FORWARD", "dx": "INPUT_GRADIENT", "dw": "WEIGHT_GRADIENT", "transposed": "TRANSPOSED"}
ROWS = [(table, i) for table, rows in convolution.TABLES.items() for i in range(len(rows))]


def smaller(example):
    """Return the example on a small map with as few channels as its row takes."""
    _, weights, stride, padding, groups = example
    kh, kw, c_in, c_out = weights
    side = 17 if stride > 1 or kh > 1 else 16
    if groups > 1:
        groups, c_in = (2, 32) if c_in >= 32 else (4, c_in)
        c_out = groups * c_in
    else:
        c_in, c_out = min(c_in, 32), min(c_out, 64 if kh == 1 else 32)
    return (1, side, side, c_in * groups), (kh, kw, c_in, c_out), stride, padding, groups


@pytest.mark.parametrize(("table", "number"), ROWS)
def test_an_example_belongs_to_its_row(table, number):
    row = convolution.TABLES[table][number]
    rest = convolution.TABLES[table][number:]  # the last row's example may suit an earlier one
    assert convolution.choose(rest, geometry(table, row.example)) is row.compute
    assert row.when and row.without and row.gain


@pytest.mark.parametrize("table", convolution.TABLES)
def test_every_file_of_a_row_exists_and_every_kernel_has_a_row(table):
    folder = Path(convolution.__file__).parent
    assert all((folder / f"{row.file}.py").is_file() for row in convolution.TABLES[table])
    named = {row.file for rows in convolution.TABLES.values() for row in rows}
    lent = set(re.findall(r"``(\w+)``", convolution.__doc__))  # files of loops and parts, which the text names
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "geometry"}
    assert files == named | (lent & files)


@pytest.fixture
def without(monkeypatch):
    """Return a function that removes a row of a table."""
    for module, least in ((winograd_strided, "LEAST"), (direct, "HEAVY"), (direct, "LARGE")):
        monkeypatch.setattr(module, least, 0)

    def remove(table, number):
        rows = convolution.TABLES[table]
        monkeypatch.setattr(convolution, NAMES[table], rows[:number] + rows[number + 1 :])

    return remove


@pytest.mark.parametrize(("table", "number"), [row for row in ROWS if row[0] != "transposed"])
def test_without_a_row_the_next_one_takes_over(table, number, without):
    """Plain and fused convolution, forward and both gradients, as exact as by the NumPy body."""
    example = smaller(convolution.TABLES[table][number].example)
    maps, weights, stride, padding, groups = example
    rest = convolution.TABLES[table][number:]
    assert convolution.choose(rest, measure(*example)) is rest[0].compute, "the small example is for another row"
    rng = np.random.default_rng(0)
    x, w, b = draw(rng, *maps), draw(rng, *weights), draw(rng, weights[3])
    how = {"stride": stride, "padding": padding, "groups": groups}
    norm = (*(np.abs(draw(rng, weights[3])) + np.float32(0.5) for _ in range(4)), 1e-3)
    without(table, number)

    y, cache = conv2d(x, w, b, **how)
    exact, exact_cache = conv2d.reference(*to_float64((x, w, b)), **how)
    assert error(y, exact) <= 1e-5  # measured: 4e-6, by Winograd
    dy, residual, plus = draw(rng, *y.shape), draw(rng, *y.shape), draw(rng, *x.shape)
    for ours, exactly in zip(conv2d_backward(dy, cache), conv2d_backward.reference(to_float64(dy), exact_cache)):
        assert error(ours, exactly) <= 2e-5  # measured: 6e-6, by Winograd

    y, cache = conv2d_fused(x, w, b, norm=norm, residual=residual, activate=True, **how)
    exact, exact_cache = conv2d_fused.reference(
        *to_float64((x, w, b)), norm=to_float64(norm), residual=to_float64(residual), activate=True, **how
    )  # fmt: skip
    assert error(y, exact) <= 1e-5
    exact_cache = exact_cache._replace(y=to_float64(y))  # the same side of the kink on both, whatever the rounding
    wanted = conv2d_fused_backward.reference(to_float64(dy), exact_cache, plus=to_float64(plus))
    got = conv2d_fused_backward(dy, cache, plus=plus)
    for name, ours, exactly in zip(got._fields, got, wanted):
        assert error(ours, exactly) <= 2e-5, name


@pytest.mark.parametrize("number", range(len(convolution.TRANSPOSED)))
def test_without_a_row_of_transposed_convolutions(number, without):
    rng = np.random.default_rng(1)
    x, w, b = draw(rng, 2, 5, 7, 8), draw(rng, 2, 2, 8, 64), draw(rng, 64)
    without("transposed", number)
    for activate in (False, True):
        y, _ = conv2d_transpose(x, w, b, activate=activate)
        exact, _ = conv2d_transpose.reference(*to_float64((x, w, b)), activate=activate)
        assert error(y, exact) <= 2e-6  # measured: 4e-7


@pytest.mark.parametrize("table", convolution.TABLES)
def test_with_no_row_at_all_a_kernel_declines(table, monkeypatch):
    rng = np.random.default_rng(2)
    x, w = draw(rng, 1, 5, 5, 8), draw(rng, 2, 2, 8, 8)
    y, cache = fast.conv2d(x, w)
    _, fused_cache = conv2d_fused(x, w)
    monkeypatch.setattr(convolution, NAMES[table], ())
    declined = {
        "forward": [lambda: fast.conv2d(x, w), lambda: fast_fused.conv2d_fused(x, w)],
        "dx": [lambda: fast.conv2d_backward(y, cache), lambda: fast_fused.conv2d_fused_backward(y, fused_cache)],
        "transposed": [lambda: fast.conv2d_transpose(x, w)],
    }
    for call in declined["dx" if table == "dw" else table]:
        assert call() is NotImplemented


@pytest.mark.skipif(INTERPRETED, reason="times of compiled kernels")
def test_the_price_of_each_row_can_be_measured(capsys):
    """With one try each, on small maps: the command that the gains in the tables come from."""
    examples = {name: [smaller(row.example) for row in rows] for name, rows in convolution.TABLES.items()}
    main(examples, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROWS)
    assert re.search(r"dw +winograd_weights +[\d.]+ ms +[\d.]+ x  instead of direct: [\d.]+ ms", "\n".join(lines))
