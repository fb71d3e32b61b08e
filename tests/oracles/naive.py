"""Loop oracles: every operation again in plain Python loops, straight from its equation.

They share no code with the package, read one number at a time and return float64 (or the dtype of the masks). Slow on
purpose; call them with small arrays. The gradients of the operations need no oracle: they are checked by finite
differences (gradcheck.py).
"""

import math

import numpy as np


def conv2d(x, w, b=None, *, stride=(1, 1), padding=((0, 0), (0, 0)), groups=1):
    """Sum of products over every window; an index outside the map reads 0."""
    n, height, width, _ = x.shape
    kh, kw, c_group, c_out = w.shape
    (top, bottom), (left, right) = padding
    rows = (top + height + bottom - kh) // stride[0] + 1
    columns = (left + width + right - kw) // stride[1] + 1
    y = np.zeros((n, rows, columns, c_out))
    for image in range(n):
        for p in range(rows):
            for q in range(columns):
                for o in range(c_out):
                    first = (o // (c_out // groups)) * c_group
                    total = 0.0 if b is None else float(b[o])
                    for i in range(kh):
                        for j in range(kw):
                            row, column = p * stride[0] + i - top, q * stride[1] + j - left
                            if 0 <= row < height and 0 <= column < width:
                                for c in range(c_group):
                                    total += float(x[image, row, column, first + c]) * float(w[i, j, c, o])
                    y[image, p, q, o] = total
    return y


def conv2d_transpose(x, w, b=None, *, stride=(2, 2)):
    """Stamp the kernel once per input cell."""
    n, height, width, c_in = x.shape
    kh, kw, _, c_out = w.shape
    y = np.zeros((n, (height - 1) * stride[0] + kh, (width - 1) * stride[1] + kw, c_out))
    for image in range(n):
        for p in range(height):
            for q in range(width):
                for i in range(kh):
                    for j in range(kw):
                        for c in range(c_in):
                            for o in range(c_out):
                                value = float(x[image, p, q, c]) * float(w[i, j, c, o])
                                y[image, p * stride[0] + i, q * stride[1] + j, o] += value
    return y if b is None else y + b


def group_norm(x, gamma, beta, *, groups, eps):
    """Every number of a group of one map by itself, one group after the other."""
    y = np.zeros(x.shape)
    size = x.shape[-1] // groups
    for n in range(len(x)):
        flat, out = x[n].reshape(-1, x.shape[-1]), y[n].reshape(-1, x.shape[-1])
        for g in range(groups):
            members = [(row, c) for row in range(len(flat)) for c in range(g * size, (g + 1) * size)]
            mean = math.fsum(float(flat[m]) for m in members) / len(members)
            var = math.fsum((float(flat[m]) - mean) ** 2 for m in members) / len(members)
            for row, c in members:
                out[row, c] = float(gamma[c]) * (float(flat[row, c]) - mean) / math.sqrt(var + eps) + float(beta[c])
    return y


def batch_norm(x, gamma, beta, mean, var, *, training, eps, momentum):
    """Return ``(y, new running mean, new running variance)``."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.zeros(rows.shape)
    new_mean, new_var = np.array(mean, dtype=np.float64), np.array(var, dtype=np.float64)
    for c in range(rows.shape[1]):
        values = [float(v) for v in rows[:, c]]
        m, s = float(mean[c]), float(var[c])
        if training:
            m = math.fsum(values) / len(values)
            squares = math.fsum((v - m) ** 2 for v in values)
            s = squares / len(values)
            new_mean[c] = (1 - momentum) * new_mean[c] + momentum * m
            new_var[c] = (1 - momentum) * new_var[c] + momentum * squares / (len(values) - 1)
        for r, v in enumerate(values):
            y[r, c] = float(gamma[c]) * (v - m) / math.sqrt(s + eps) + float(beta[c])
    return y.reshape(x.shape), new_mean, new_var


def max_pool2d(x, dy, *, kernel, stride, padding):
    """Return ``(y, dx)``; the first maximum in row-major order takes the gradient."""
    n, height, width, channels = x.shape
    (top, bottom), (left, right) = padding
    rows = (top + height + bottom - kernel[0]) // stride[0] + 1
    columns = (left + width + right - kernel[1]) // stride[1] + 1
    y, dx = np.zeros((n, rows, columns, channels)), np.zeros(x.shape)
    for image in range(n):
        for p in range(rows):
            for q in range(columns):
                for c in range(channels):
                    best, where = -math.inf, None
                    for i in range(kernel[0]):
                        for j in range(kernel[1]):
                            row, column = p * stride[0] + i - top, q * stride[1] + j - left
                            inside = 0 <= row < height and 0 <= column < width
                            if inside and x[image, row, column, c] > best:
                                best, where = float(x[image, row, column, c]), (image, row, column, c)
                    y[image, p, q, c] = best
                    dx[where] += dy[image, p, q, c]
    return y, dx


def upsample_nearest(x, scale):
    n, height, width, channels = x.shape
    y = np.zeros((n, height * scale, width * scale, channels))
    for image, p, q, c in np.ndindex(*y.shape):
        y[image, p, q, c] = x[image, p // scale, q // scale, c]
    return y


def resize_bilinear(image, size):
    """Interpolate one image ``(H, W, C)`` pixel by pixel from its four neighbours."""
    height, width, channels = image.shape
    y = np.zeros((*size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            v = min(max((i + 0.5) * height / size[0] - 0.5, 0.0), height - 1.0)
            u = min(max((j + 0.5) * width / size[1] - 0.5, 0.0), width - 1.0)
            top, left = math.floor(v), math.floor(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fv, fu = v - top, u - left
            for c in range(channels):
                upper = (1 - fu) * float(image[top, left, c]) + fu * float(image[top, right, c])
                lower = (1 - fu) * float(image[bottom, left, c]) + fu * float(image[bottom, right, c])
                y[i, j, c] = (1 - fv) * upper + fv * lower
    return y


def resize_nearest(masks, size):
    y = np.zeros((len(masks), *size), masks.dtype)
    for g, i, j in np.ndindex(*y.shape):
        y[g, i, j] = masks[g, i * masks.shape[1] // size[0], j * masks.shape[2] // size[1]]
    return y


def linear(x, w, b=None):
    y = np.zeros((x.shape[0], w.shape[1]))
    for r, o in np.ndindex(*y.shape):
        y[r, o] = sum(float(x[r, c]) * float(w[c, o]) for c in range(w.shape[0])) + (0.0 if b is None else float(b[o]))
    return y


def sigmoid(x):
    """One number; exact enough wherever exp(-x) does not overflow."""
    return 1.0 / (1.0 + math.exp(-x))


def softmax(row):
    """One row of moderate numbers."""
    total = math.fsum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def smooth_l1(difference, beta):
    """One number."""
    size = abs(difference)
    return size * size / (2 * beta) if size < beta else size - beta / 2
