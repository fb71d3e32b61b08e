"""RoIAlign: read a fixed grid of values out of a feature map, at exact positions, without rounding the box.

Coordinates of a feature map are pixel indices: integer coordinate ``i`` is the value of row ``i`` itself. Taken as an
area, pixel ``i`` covers ``[i, i + 1)`` and its value sits at ``i + 0.5``; ``aligned=True`` subtracts that half pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from scipy import sparse

from kernels import accelerated, contract, on_device
from kernels.contract import RoIAlignCache

BLOCK_BYTES = 24 * 2**20  # what the temporaries of one block of RoIs may take
MANY = 64  # samples per bin above which a RoI is read by itself, without listing each sample's pixels


def _axis_taps(coordinate: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two neighbours of each coordinate on one axis and their weights.

    ``index, weight``, each with a last axis of 2 (lower, upper neighbour). The rules are those of torchvision's kernel:
    outside ``[-1, size]`` both weights are 0; inside it the coordinate is first moved into ``[0, size - 1]``, which
    repeats the border pixel.
    """
    inside = (coordinate >= -1) & (coordinate <= size)  # False for NaN
    clamped = np.clip(np.where(inside, coordinate, 0), 0, size - 1)
    lower = clamped.astype(np.int32)  # clamped >= 0, so truncation is floor
    upper = np.minimum(lower + 1, size - 1)
    fraction = clamped - lower.astype(clamped.dtype)
    return np.stack([lower, upper], axis=-1), np.stack([1 - fraction, fraction], axis=-1) * inside[..., None]


def bilinear_interpolate(feature: np.ndarray, y: np.ndarray | float, x: np.ndarray | float) -> np.ndarray:
    """Return the value of a feature map between its pixels.

    With ``y = y_low + ly`` and ``x = x_low + lx``, and ``Q`` the four pixels around::

        value = (1 - ly) (1 - lx) Q[y_low, x_low ] + (1 - ly) lx Q[y_low, x_high]
              +      ly  (1 - lx) Q[y_high, x_low] +      ly  lx Q[y_high, x_high]

    Parameters
    ----------
    feature : ndarray of shape (H, W, C) or (H, W)
    y, x : ndarray or float
        Coordinates as pixel indices: ``y = 1`` is exactly row 1. Broadcast against each other to a shape (...).

    Returns
    -------
    ndarray of shape (..., C) or (...)
        In the dtype of ``feature``, of whole numbers in floating point.

    Raises
    ------
    ValueError
        ``feature`` has no pixels or another number of axes.

    Notes
    -----
    A coordinate up to 1 pixel outside, in ``[-1, 0]`` or ``[H - 1, H]``, reads the border pixel; further out the value
    is 0. These are the rules of torchvision's kernel, and they make the value jump at -1 and at H.
    """
    feature = contract.as_floating(np.asarray(feature))
    if feature.ndim not in (2, 3) or 0 in feature.shape[:2]:
        raise ValueError(f"feature has shape {feature.shape}; expected (H, W, C) or (H, W) with at least one pixel")
    yx = np.broadcast_arrays(np.asarray(y, feature.dtype), np.asarray(x, feature.dtype))
    (rows, row_weights), (columns, column_weights) = (_axis_taps(c, s) for c, s in zip(yx, feature.shape))
    corners = feature[rows[..., :, None], columns[..., None, :]]  # (..., 2, 2, C) or (..., 2, 2)
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    if feature.ndim == 3:
        return np.einsum("...ij,...ijc->...c", weights, corners)
    return np.einsum("...ij,...ij->...", weights, corners)


@accelerated
def roi_align(
    features: np.ndarray,
    rois: np.ndarray,
    batch_index: np.ndarray,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
    reduce: Literal["mean", "max"] = "mean",
) -> tuple[np.ndarray, RoIAlignCache]:
    """Cut each RoI into bins and read each bin as the mean or maximum of bilinear samples spread evenly over it.

    With the RoI's start ``s = scale y1 - o`` (``o`` is 1/2 if aligned, else 0) and its bin height ``b``, sample ``i``
    of ``g`` in bin ``p`` lies at ``s + p b + (i + 1/2) b / g``, and likewise along x: at the centres of the ``g x g``
    equal parts of the bin.

    Parameters
    ----------
    features : ndarray of shape (N, H, W, C)
    rois : ndarray of shape (R, 4)
        ``(y1, x1, y2, x2)``, half-open, pixels of the input image.
    batch_index : ndarray of shape (R,), int
        Which of the N maps each RoI reads.
    output_size : int or (int, int)
        Bins ``(ph, pw)``.
    spatial_scale : float
        Feature pixels per image pixel: 1 / stride.
    sampling_ratio : int
        Samples per bin and axis. 0: as many as the bin has feature pixels, rounded up, for each RoI and axis.
    aligned : bool
        Subtract the half pixel by which "coordinate = pixel index" is off (detectron2). False is the original operation
        (torchvision's default): RoIs read half a pixel too far down and right, and are at least 1 feature pixel wide.
    reduce : {"mean", "max"}
        How the samples of a bin become one value. The mean is what the frameworks compute.

    Returns
    -------
    pooled : ndarray of shape (R, ph, pw, C)
        In the dtype of ``features``.
    cache : RoIAlignCache
        Its ``winner`` is None for the mean, else it names the sample that won each value: the first, row by row, on
        ties.

    Raises
    ------
    ValueError
        A shape is wrong, a RoI is not finite, or an index or option is out of range.

    Notes
    -----
    The mean is linear in the features, so it is one sparse matrix with a row per bin and a column per feature pixel,
    holding the bilinear weights of the bin's samples divided by their number: ``y = W F``. Its backward pass is the
    transpose, ``dF = W^T dy``: every bin hands its gradient to the pixels it read, in proportion to the same weights.
    Sparse products add in a fixed order, so the same input gives the same bits.

    This body, on one core, needs 40 ms forward and 35 ms backward for 1000 RoIs of 7 x 7 x 256 (torchvision's kernel on
    one thread: 270 ms forward), and 17 and 15 ms for 400 of 14 x 14 x 48. Beside input and output, W is the largest
    array: 8 bytes for each of the 16 weights of a bin, 6 MB for 1000 RoIs of 7 x 7. The maximum takes ten times as
    long.

    A RoI with many samples per bin (an adaptive one far larger than its bins) has no rows in W. Its mean is taken down
    and then across, two small matrices that know only pixels of the map: what lies outside weighs nothing. So time and
    memory are those of the part of the map that the RoI covers, however large the RoI.

    References
    ----------
    He et al., "Mask R-CNN", section 3 and figure 3. The paper finds mean and maximum equally good (table 2c).
    """
    features, rois, batch_index = contract.as_floating(np.asarray(features)), np.asarray(rois), np.asarray(batch_index)
    bins = check_rois(features, rois, batch_index, output_size)
    if sampling_ratio < 0:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; expected 0 (adaptive) or more")
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce is {reduce!r}; expected 'mean' or 'max'")
    grid = _SampleGrid(features.shape, features.dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned)
    channels = features.shape[3]
    pixels = features.reshape(-1, channels)  # (N * H * W, C)
    winner = None
    if reduce == "mean":
        pooled = (grid.mean_matrix() @ pixels).reshape(len(rois), *bins, channels)
        for roi, window, down, across in grid.axis_means():
            pooled[roi] = across @ np.tensordot(down, features[window], 1)  # (ph, w, C), then (ph, pw, C)
    else:
        pooled = np.zeros((len(rois), *bins, channels), features.dtype)
        winner = np.zeros(pooled.shape, np.min_scalar_type(grid.counts.prod(axis=1).max(initial=1)))
        for members, matrix, samples in grid.sample_matrices():
            values = (matrix @ pixels).reshape(len(members), *bins, samples, channels)
            best = values.argmax(axis=3, keepdims=True)  # the first on ties
            pooled[members], winner[members] = np.take_along_axis(values, best, 3)[..., 0, :], best[..., 0, :]
        for roi, p, q, numbers, matrix in grid.bins_of_many():
            values = matrix @ pixels  # (samples that matter, C)
            best = values.argmax(axis=0)
            pooled[roi, p, q], winner[roi, p, q] = values[best, np.arange(channels)], numbers[best]
    return pooled, RoIAlignCache(
        features.shape, features.dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner
    )


@accelerated
def roi_align_backward(dy: np.ndarray, cache: RoIAlignCache, *, into: np.ndarray | None = None) -> np.ndarray:
    """Return the gradient with respect to the features only: ``dF = W^T dy``.

    Parameters
    ----------
    dy : ndarray of shape (R, ph, pw, C)
    cache : RoIAlignCache
    into : ndarray of shape (N, H, W, C), optional
        Add the gradient to this array, in place, and return it: what the features receive on other ways.

    Returns
    -------
    dfeatures : ndarray of shape (N, H, W, C)

    Notes
    -----
    With ``reduce="max"`` the whole gradient of a bin goes to the four pixels of its winning sample.

    There is no gradient to the boxes. It exists almost everywhere (the samples move with the box), but the boxes are
    proposals: the region proposal network has its own loss for them, and neither the paper nor any framework lets the
    heads pull on them as well.
    """
    shape, dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned, winner = cache
    grid = _SampleGrid(shape, dtype, rois, batch_index, bins, spatial_scale, sampling_ratio, aligned)
    dfeatures = np.zeros(shape, dtype) if into is None else into
    if winner is None:
        dfeatures += (grid.mean_matrix().T @ dy.reshape(-1, shape[3])).reshape(shape)
        for roi, window, down, across in grid.axis_means():
            dfeatures[window] += np.tensordot(down.T, across.T @ dy[roi], 1)
        return dfeatures
    for members, matrix, samples in grid.sample_matrices():
        dvalues = np.zeros((*dy[members].shape[:3], samples, shape[3]), dtype)
        np.put_along_axis(dvalues, winner[members][..., None, :].astype(np.intp), dy[members][..., None, :], 3)
        dfeatures += (matrix.T @ dvalues.reshape(-1, shape[3])).reshape(shape)
    for roi, p, q, numbers, matrix in grid.bins_of_many():
        won = numbers[:, None] == winner[roi, p, q]  # (samples that matter, C)
        dfeatures += (matrix.T @ np.where(won, dy[roi, p, q], 0)).reshape(shape)
    return dfeatures


def check_rois(
    features: np.ndarray,
    rois: np.ndarray,
    batch_index: np.ndarray,
    output_size: int | tuple[int, int],
    *,
    name: str = "features",
) -> tuple[int, int]:
    """Check what all RoI operations share and return the number of bins ``(ph, pw)``.

    Parameters
    ----------
    features, rois, batch_index, output_size
        As in ``roi_align``.
    name : str
        What the maps are called in a message.

    Raises
    ------
    ValueError
        A shape is wrong, a RoI is not finite, or an index is out of range. Of arrays on a device only the shapes are
        looked at.
    """
    if features.ndim != 4 or 0 in features.shape[1:3]:
        raise ValueError(f"{name} has shape {features.shape}; expected (N, H, W, C) with at least one pixel")
    bins = contract.as_pair(output_size)
    if bins is None:
        raise ValueError(f"output_size is {output_size}; expected a positive int or a pair of them")
    if rois.ndim != 2 or rois.shape[1] != 4:
        raise ValueError(f"rois has shape {rois.shape}; expected (R, 4)")
    if batch_index.shape != (len(rois),):
        raise ValueError(f"batch_index has shape {batch_index.shape}; expected ({len(rois)},), one per RoI")
    if on_device(rois):  # a look at the values would keep the host waiting; what boxes are made of is looked at before
        return bins
    if not np.isfinite(rois).all():
        row = int(np.flatnonzero(~np.isfinite(rois).all(axis=1))[0])
        raise ValueError(f"roi {row} is {rois[row].tolist()}; expected finite numbers")
    outside = (batch_index < 0) | (batch_index >= len(features))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ValueError(f"batch_index of roi {row} is {batch_index[row]}; expected 0 to {len(features) - 1}")
    return bins


class _SampleGrid:
    """Where the samples of all RoIs lie, and the sparse matrices that read them."""

    def __init__(
        self,
        features_shape: tuple[int, ...],
        dtype: np.dtype,
        rois: np.ndarray,
        batch_index: np.ndarray,
        bins: tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool,
    ) -> None:
        self.maps, self.size, self.channels = features_shape[0], features_shape[1:3], features_shape[3]
        self.dtype, self.bins = np.dtype(dtype), bins
        self.batch_index = batch_index
        # Everything in the dtype of the features, in the order of torchvision's kernel, so that samples that fall on
        # an edge fall on the same side of it.
        offset = self.dtype.type(0.5 if aligned else 0.0)
        corners = rois.astype(self.dtype) * self.dtype.type(spatial_scale) - offset
        self.start, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
        if not aligned:
            sides = np.maximum(sides, 1)
        self.bin_sides = sides / np.asarray(bins, self.dtype)
        # Samples per bin along y and x, (R, 2). An empty RoI that adapts has none, and pools to 0.
        adaptive = np.maximum(np.ceil(self.bin_sides), 0).astype(np.intp)
        self.counts = np.full_like(adaptive, sampling_ratio) if sampling_ratio else adaptive
        self.many = self.counts.astype(np.float64).prod(axis=1) > MANY  # (R,)

    def _blocks(self, bytes_per_sample: int) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yield RoIs whose bins have equally many samples, together with these counts; no more than fit a block."""
        for count_y, count_x in np.unique(self.counts[~self.many], axis=0).tolist():
            members = np.flatnonzero((self.counts == (count_y, count_x)).all(axis=1))
            roi_bytes = self.bins[0] * self.bins[1] * count_y * count_x * bytes_per_sample
            step = max(1, BLOCK_BYTES // max(1, roi_bytes))
            for i in range(0, len(members), step):
                yield members[i : i + step], count_y, count_x

    def _taps(self, members: np.ndarray, axis: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return index and weight, on one axis, of the two neighbours of each sample: (r, bins, count, 2)."""
        bin_side = self.bin_sides[members, axis, None, None]  # (r, 1, 1)
        bin_number = np.arange(self.bins[axis], dtype=self.dtype)[:, None]
        sample = np.arange(count, dtype=self.dtype) + self.dtype.type(0.5)
        start = self.start[members, axis, None, None] + bin_number * bin_side
        return _axis_taps(start + sample * bin_side / self.dtype.type(count), self.size[axis])

    def _pixel_rows(self, members: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return the number of the first pixel of each row, all maps taken as one long list of pixels."""
        height, width = self.size
        return (self.batch_index[members].astype(np.int32)[:, None, None, None] * height + row) * width

    def mean_matrix(self) -> sparse.csr_array:
        """Return W of shape (R * ph * pw, N * H * W): row = bin, entry = weight of a pixel in the bin's mean."""
        bins = self.bins[0] * self.bins[1]
        entries = np.where(self.many, 0, 4 * self.counts.prod(axis=1))  # per bin, (R,)
        first = np.concatenate([[0], np.cumsum(np.repeat(entries, bins))])
        pixels, weights = np.empty(first[-1], np.int32), np.empty(first[-1], self.dtype)
        for members, *counts in self._blocks(bytes_per_sample=4 * 40):
            (iy, wy), (ix, wx) = (self._taps(members, axis, counts[axis]) for axis in (0, 1))
            # The mean over a grid of samples is an outer product: (mean along y) x (mean along x).
            iy, wy, ix, wx = (a.reshape(*a.shape[:2], -1) for a in (self._pixel_rows(members, iy), wy, ix, wx))
            pixel = iy[:, :, None, :, None] + ix[:, None, :, None, :]  # (r, ph, pw, 2 count_y, 2 count_x)
            weight = (wy / self.dtype.type(counts[0]))[:, :, None, :, None]
            weight = weight * (wx / self.dtype.type(counts[1]))[:, None, :, None, :]
            place = first[members * bins][:, None] + np.arange(pixel[0].size)
            pixels[place], weights[place] = pixel.reshape(place.shape), weight.reshape(place.shape)
        return sparse.csr_array(
            (weights, pixels, first), shape=(len(first) - 1, self.maps * self.size[0] * self.size[1])
        )

    def sample_matrices(self) -> Iterator[tuple[np.ndarray, sparse.csr_array, int]]:
        """Yield, block by block, RoIs, their matrix (r * ph * pw * samples, N * H * W), and the samples per bin."""
        for members, *counts in self._blocks(bytes_per_sample=4 * 40 + 3 * self.channels * self.dtype.itemsize):
            (iy, wy), (ix, wx) = (self._taps(members, axis, counts[axis]) for axis in (0, 1))
            iy = self._pixel_rows(members, iy)
            # Each sample has a row with its four neighbours: (r, ph, pw, count_y, count_x, 2, 2).
            pixel = iy[:, :, None, :, None, :, None] + ix[:, None, :, None, :, None, :]
            weight = wy[:, :, None, :, None, :, None] * wx[:, None, :, None, :, None, :]
            if pixel.size:
                shape = (pixel.size // 4, self.maps * self.size[0] * self.size[1])
                first = np.arange(0, pixel.size + 1, 4)
                matrix = sparse.csr_array((weight.ravel(), pixel.ravel(), first), shape=shape)
                yield members, matrix, counts[0] * counts[1]

    def axis_means(self) -> Iterator[tuple[int, tuple[Any, ...], np.ndarray, np.ndarray]]:
        """Yield the RoIs of many samples, their part of the maps, and the means down (ph, h) and across (pw, w) it."""
        for roi in np.flatnonzero(self.many).tolist():
            window: list[Any] = [int(self.batch_index[roi])]
            means = []
            for axis in (0, 1):
                weights = np.zeros((self.bins[axis], self.size[axis]))
                for number in range(self.bins[axis]):
                    _, pixel, weight = self._samples_that_matter(roi, axis, number)
                    np.add.at(weights[number], pixel, weight / self.counts[roi, axis])
                read = np.flatnonzero(weights.any(axis=0))
                first, end = (read[0], read[-1] + 1) if read.size else (0, 0)
                window.append(slice(int(first), int(end)))
                means.append(weights[:, first:end].astype(self.dtype))
            yield roi, tuple(window), means[0], means[1]

    def bins_of_many(self) -> Iterator[tuple[int, int, int, np.ndarray, sparse.csr_array]]:
        """Yield, bin by bin, the RoIs of many samples: numbers of the samples that matter, and their matrix."""
        for roi in np.flatnonzero(self.many).tolist():
            members = np.array([roi])
            lines = [[self._samples_that_matter(roi, axis, b) for b in range(self.bins[axis])] for axis in (0, 1)]
            for p, (rows, iy, wy) in enumerate(lines[0]):
                iy = self._pixel_rows(members, iy)[0, 0]
                for q, (columns, ix, wx) in enumerate(lines[1]):
                    numbers = rows[:, None] * self.counts[roi, 1] + columns
                    pixel = iy[:, None, :, None] + ix[None, :, None, :]  # (rows, columns, 2, 2)
                    weight = wy[:, None, :, None] * wx[None, :, None, :]
                    shape = (numbers.size, self.maps * self.size[0] * self.size[1])
                    first = np.arange(0, pixel.size + 1, 4)
                    matrix = sparse.csr_array((weight.ravel(), pixel.ravel(), first), shape=shape)
                    yield roi, p, q, numbers.ravel(), matrix

    def _samples_that_matter(self, roi: int, axis: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return, for one bin on one axis, the samples on the map and the first one: number (n,), index, weight (n, 2).

        All samples outside are alike, 0; of two alike the maximum takes the first. The first sample of a bin and those
        just before and behind the map stand for all others.
        """
        count, size, side = int(self.counts[roi, axis]), self.size[axis], self.bin_sides[roi, axis]
        start = self.start[roi, axis] + self.dtype.type(number) * side
        low, high = 1, count
        if side > 0:
            step = float(side) / count
            low, high = (int(np.clip((edge - float(start)) / step, -9, count + 9)) for edge in (-1, size))
            low, high = max(1, low - 4), min(count, high + 5)
        numbers = np.concatenate([[0], np.arange(low, max(low, high))])
        place = start + (numbers.astype(self.dtype) + self.dtype.type(0.5)) * side / self.dtype.type(count)
        return numbers, *_axis_taps(place, size)
