"""The arithmetic of chapter 1's live picture is that of the package."""

import numpy as np

from mrcnn_np.ops.resize import resize_bilinear


def test_resize_line(in_node):
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=n), m) for n in (1, 2, 3, 8, 13) for m in (1, 2, 5, 8, 16)]
    theirs = in_node("resize_line.math.js", [["resizeLine", [line.tolist(), m, True]] for line, m in cases])
    for (line, m), got in zip(cases, theirs):
        ours = resize_bilinear(line.reshape(1, -1, 1), (1, m))[0].ravel()
        np.testing.assert_allclose(got, ours, rtol=1e-12, atol=1e-12)


def test_without_the_half_pixel(in_node):
    (got,) = in_node("resize_line.math.js", [["resizeLine", [[0, 10, 20], 6, False]]])
    np.testing.assert_allclose(got, [0, 5, 10, 15, 20, 20])


def test_where_it_reads(in_node):
    (first, last) = in_node("resize_line.math.js", [["readAt", [3, 6, i, True]] for i in (0, 5)])
    assert first == {"wanted": -0.25, "u": 0, "left": 0, "right": 1, "weight": 0}
    assert last == {"wanted": 2.25, "u": 2, "left": 2, "right": 2, "weight": 0}
