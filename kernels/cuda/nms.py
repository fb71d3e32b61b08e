"""Non-maximum suppression: all overlaps at once, one bit for each; then one block reads the bits, best box first.

The CPU compares a box with others only once it has survived, one after the other. Here there are thousands of threads
with nothing else to do, so all pairs are compared, also those of boxes that will not survive:

    ``rank_keys``      a whole number for each box, in the order of score and index; CuPy sorts them
    ``arrange``        the boxes in that order, with their areas
    ``overlap_bits``   for each box, one bit for each worse one: does it overlap by more than the threshold?
    ``survivors``      64 boxes at a time: who survives among them, then strike out all that these overlap

The bits are N^2 / 8 bytes: 18 MB for 12,000 boxes, 8.6 GB for the most that are taken.

Boxes of different groups do not suppress each other, so their bits are 0, and one run does for all groups. Nothing goes
to the host but the number of survivors, which is the size of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scalar import ZERO, box_area, shared_area
from .machine.arguments import is_float32
from .machine.device import (
    SIMULATED,
    blocks_for,
    contiguous,
    cuda,
    empty,
    float32,
    is_device,
    kernel,
    launch,
    to_host,
    zeros,
)

WORD = 4 if SIMULATED else 64  # boxes whose bits are in one number
THREADS = 8 if SIMULATED else 256
MOST_WORDS = 4096  # of the bits "struck out", which have to fit shared memory: 262,144 boxes
AT_ONCE = 2 if SIMULATED else 16  # survivors whose bits are asked for before the first has arrived
LOWEST = -(2**31)  # CuPy sorts signed numbers; this brings 0 ... 2^32 - 1 into their range
ONE_BIT = np.int64(1)


@kernel("u4[::1]", "i8[::1]")
def rank_keys(bits, keys):
    """Write a number for each score that is smaller for a better score or, of equal ones, a lower index.

    It is made of the bits of the score's float32 and of the index. Positive floats are in the order of their bits,
    negative ones in the opposite order. NaN comes first.

    **Owns:** a thread, one score. **Shared:** nothing. **No race:** each writes its own. **Floor:** 12 bytes a score.
    """
    i = cuda.grid(1)
    if i < keys.size:
        b = np.int64(bits[i])
        if (b & 0x7FFFFFFF) > 0x7F800000:  # NaN
            descending = np.int64(0)
        elif b >= 2**31:  # negative
            descending = b
        else:
            descending = 2**31 - 1 - b
        keys[i] = (descending + LOWEST) * 2**32 + i


@kernel("i8[::1]", "f4[:,::1]", "i8[::1]", "i8[::1]", "f4[:,::1]", "i8[::1]")
def arrange(keys, boxes, groups, order, ranked, ranked_groups):
    """Write, from sorted keys, the order of the boxes, their sides and area in this order, (N, 5), and their groups.

    **Owns:** a thread, one box. **Shared:** nothing. **No race:** each writes its own. **Floor:** 68 bytes a box, 32
    read and 36 written.
    """
    rank = cuda.grid(1)
    if rank < keys.size:
        i = keys[rank] & 0xFFFFFFFF
        order[rank], ranked_groups[rank] = i, groups[i]
        for side in range(4):
            ranked[rank, side] = boxes[i, side]
        ranked[rank, 4] = box_area(boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3])


@kernel("f4[:,::1]", "i8[::1]", "f4", "i8[:,::1]")
def overlap_bits(ranked, groups, threshold, bits):
    """Write for each box (N, 5), in the order of rank, the bits of the boxes behind it: bits (N, ceil(N / WORD)).

    **Owns:** a block, the bits of ``WORD`` boxes for ``WORD`` others; a thread, those of one box. Blocks before the
    diagonal have nothing to do, and what they would own is never read. **Shared:** the other boxes, one loaded by each
    thread. **No race:** a barrier parts loading from reading. **Floor:** 14 operations for each of N^2 / 2 pairs: 9 for
    what they share, 2 for what they cover, 3 comparisons; pairs that overlap need a division more.
    """
    others = cuda.shared.array((WORD, 5), float32)
    other_groups = cuda.shared.array(WORD, np.int64)
    t, count = cuda.threadIdx.x, ranked.shape[0]
    word, i, first = cuda.blockIdx.x, cuda.blockIdx.y * WORD + cuda.threadIdx.x, cuda.blockIdx.x * WORD
    if word < cuda.blockIdx.y:  # the whole block leaves, so nobody waits at the barrier
        return
    if first + t < count:
        for side in range(5):
            others[t, side] = ranked[first + t, side]
        other_groups[t] = groups[first + t]
    cuda.syncthreads()
    if i >= count:
        return
    y1, x1, y2, x2, area, group = ranked[i, 0], ranked[i, 1], ranked[i, 2], ranked[i, 3], ranked[i, 4], groups[i]
    found = np.int64(0)
    for j in range(max(0, i + 1 - first), min(WORD, count - first)):
        shared = shared_area(y1, x1, y2, x2, others[j, 0], others[j, 1], others[j, 2], others[j, 3])
        whole = area + others[j, 4] - shared
        # Most pairs share nothing, and need no division (below a threshold under 0 even boxes that share nothing do)
        compared = group == other_groups[j] and (shared > ZERO or threshold < ZERO)
        if compared and whole > ZERO and shared / whole > threshold:
            found |= ONE_BIT << np.int64(j)
    bits[i, word] = found


@kernel("i8[::1]", "i8[::1]", "i8[:,::1]", "i8[::1]", "i8[::1]")
def survivors(keys, order, bits, kept, found):
    """Write the indices of the boxes that survive, best first, and how many; -1 - i if score i is NaN.

    One block does it all: who survives is known one after the other. It takes ``WORD`` boxes at a time. The first
    thread goes through them, with the bits of these boxes among themselves; then all threads strike out what the
    survivors overlap.

    **Owns:** in each round the words behind the current one are dealt out to the threads; thread k writes the index of
    the k-th survivor. **Shared:** ``struck``, one bit for each box that is out; the bits of ``WORD`` boxes among
    themselves; a list of those that survive. **No race:** in a round each word of ``struck`` has one writer; it may be
    another one in the next round, with a barrier between. The first thread reads a word only after that barrier.
    **Floor:** the rows of the survivors read once by one multiprocessor; N / WORD rounds, one after the other, each
    with a trip to memory; and the N steps of the first thread.
    """
    struck = cuda.shared.array(MOST_WORDS, np.int64)
    among = cuda.shared.array(WORD, np.int64)
    alive = cuda.shared.array(WORD, np.int32)
    living = cuda.shared.array(1, np.int32)
    t, count, words = cuda.threadIdx.x, bits.shape[0], bits.shape[1]
    total = 0
    for word in range(t, words, THREADS):
        struck[word] = np.int64(0)
    for word in range(words):
        first = word * WORD
        size = min(WORD, count - first)
        for k in range(t, size, THREADS):
            among[k] = bits[first + k, word]
        cuda.syncthreads()
        if t == 0:
            out, number = struck[word], 0
            for k in range(size):
                if ((out >> np.int64(k)) & 1) == 0:
                    out |= among[k]
                    alive[number] = k
                    number += 1
            living[0] = number
        cuda.syncthreads()
        number = living[0]
        for k in range(t, number, THREADS):
            kept[total + k] = order[first + alive[k]]
        total += number
        if number > 0:
            for other in range(word + 1 + t, words, THREADS):
                out = struck[other]
                for k in range(0, number, AT_ONCE):
                    for step in range(AT_ONCE):  # where there are no more, the last one again: OR twice changes nothing
                        out |= bits[first + alive[min(k + step, number - 1)], other]
                struck[other] = out
        cuda.syncthreads()  # ``alive`` has been read, ``struck`` is written
    if t == 0:  # a NaN's key is below all others (``rank_keys``)
        found[0] = -1 - order[0] if keys[0] < (LOWEST + 1) * 2**32 else total


def _ranked(scores: Any) -> Any:
    """Return the sorted keys of scores (N,)."""
    keys = empty(scores.shape, np.int64)
    bits = (scores + float32(0)).view(np.uint32)  # -0 becomes 0
    launch(rank_keys, blocks_for(keys.size, THREADS), THREADS, bits, keys)
    keys.sort()
    return keys


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """See ``mrcnn_np.nms.nms``."""
    return _suppress(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
    """See ``mrcnn_np.nms.batched_nms``."""
    if not is_device(groups) or groups.shape != scores.shape or groups.dtype.kind not in "iub":
        return NotImplemented
    return _suppress(boxes, scores, contiguous(groups.astype(np.int64, copy=False)), iou_threshold)


def _suppress(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
    """Do either; no groups: all boxes are of the same."""
    if not is_float32(boxes, scores) or boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        return NotImplemented
    count, words = len(boxes), blocks_for(len(boxes), WORD)
    if words > MOST_WORDS:
        return NotImplemented
    kept = empty(count, np.int64)
    if count == 0:
        return kept
    groups = zeros(count, np.int64) if groups is None else groups
    order, ranked, ranked_groups = empty(count, np.int64), empty((count, 5)), empty(count, np.int64)
    bits, found, keys = empty((count, words), np.int64), empty(1, np.int64), _ranked(scores)
    launch(arrange, blocks_for(count, THREADS), THREADS, keys, contiguous(boxes), groups, order, ranked, ranked_groups)
    launch(overlap_bits, (words, words), WORD, ranked, ranked_groups, iou_threshold, bits)
    launch(survivors, 1, THREADS, keys, order, bits, kept, found)
    number = int(to_host(found)[0])
    if number < 0:
        raise ValueError(f"score {-1 - number} is NaN; NMS needs scores it can rank")
    return kept[:number]
