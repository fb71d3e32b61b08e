"""Several ranks with graphics cards: which card is whose, and how sums of what lies on them come about.

NCCL wants a card for every rank, so here it is played: the stand-in adds up what the addresses point to, and writes
down what was asked of the streams. ``tests/gpu`` calls the real one, with one rank.
"""

import ctypes
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from fake_ranks import on_cards, on_ranks

import kernels
from kernels.cuda.machine import cards
from mrcnn_np.errors import UserError
from mrcnn_np.parallel.buckets import GradientSum
from mrcnn_np.parallel.cards import ThroughTheHost, take_cards
from mrcnn_np.parallel.norm import batch_statistics_norm, batch_statistics_norm_backward, of_all
from mrcnn_np.training.agreement import alike

# --- which card is whose ---


@pytest.mark.parametrize("there, size, taken", [(4, 3, ["0", "1", "2"]), (2, 4, ["0", "1", "0", "1"])])
def test_neighbours_take_one_card_each_as_long_as_there_are_some(monkeypatch, there, size, taken):
    cards_of = {}
    monkeypatch.setattr(cards, "number_of_cards", lambda: there)
    monkeypatch.setattr(cards, "why_no_nccl", lambda: "there is none")

    def work(ranks):
        monkeypatch.setattr(cards, "take_card", lambda number: cards_of.setdefault(threading.get_ident(), str(number)))
        return take_cards(ranks), cards_of[threading.get_ident()]

    said, mine = zip(*on_ranks(size, work))
    assert list(mine) == taken and len(set(said)) == 1
    shared = "2 cards" if there < size else "3 cards"
    assert said[0].startswith(f"{size} ranks on {shared}; sums go through the host's memory")
    assert ("share a card" in said[0]) == (there < size)
    assert ("there is none; pip install 'mrcnn-np[cuda-mpi]'" in said[0]) == (there >= size)


def test_a_process_that_sees_one_card_only_has_its_own(monkeypatch):
    monkeypatch.setattr(cards, "take_card", lambda number: f"card of {threading.get_ident()}")
    monkeypatch.setattr(cards, "why_no_nccl", lambda: "there is none")
    assert all("on 3 cards" in said for said in on_ranks(3, take_cards))


def test_a_card_that_is_too_old(monkeypatch):
    def refuse(number):
        raise OSError("GPU 1, Tesla V100, has compute capability 70; expected 8.0")

    monkeypatch.setattr(cards, "take_card", refuse)
    with pytest.raises(UserError, match="Tesla V100, has compute capability 70"):
        on_ranks(2, take_cards)


# --- from card to card ---


def layout_of(values):
    return {"c_contiguous": values.flags.c_contiguous}


class FakeArray:
    """An array with an address, as CuPy's have."""

    def __init__(self, values):
        self.values = values
        self.dtype, self.size, self.shape = values.dtype, values.size, values.shape
        self.data, self.flags = SimpleNamespace(ptr=values.ctypes.data), SimpleNamespace(**layout_of(values))


class FakeStream:
    def __init__(self, name, log):
        self.name, self.log, self.ptr = name, log, id(self)

    def record(self):
        self.log.append(f"{self.name} records")
        return SimpleNamespace(stream=self.name, done=True)

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event.stream}")


def fake_nccl(log, comm):
    class Communicator:
        def __init__(self, size, key, rank):
            log.append((size, key, rank))

        def allReduce(self, source, target, count, kind, op, stream):
            number = {7: ctypes.c_float, 8: ctypes.c_double}[kind]
            own, out = (np.ctypeslib.as_array((number * count).from_address(place)) for place in (source, target))
            comm.Allreduce(own, out)
            log.append("sums")

    return SimpleNamespace(
        NcclCommunicator=Communicator, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, get_version=lambda: 22807,
        get_unique_id=lambda: (1, 2, 3), available=True,
    )  # fmt: skip


@pytest.fixture
def nccl(monkeypatch):
    """Let every thread have streams and an NCCL of its own; return their logs by rank."""
    logs, own = {}, threading.local()

    def begin(ranks):
        own.log = logs[ranks.rank] = []
        own.nccl = fake_nccl(own.log, ranks._comm)

    cuda = SimpleNamespace(
        get_current_stream=lambda: FakeStream("main", own.log), Stream=lambda non_blocking: FakeStream("side", own.log)
    )
    monkeypatch.setattr(cards, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(cards, "SIMULATED", False)
    monkeypatch.setattr(cards, "Array", FakeArray)
    monkeypatch.setattr(cards, "_nccl", lambda: own.nccl)
    monkeypatch.setattr(cards, "number_of_cards", lambda: 8)
    monkeypatch.setattr(cards, "take_card", str)
    monkeypatch.setattr("mrcnn_np.parallel.ranks.on_device", lambda x: isinstance(x, FakeArray))
    return begin, logs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_begin_when_the_array_is_there_and_are_read_when_they_are(nccl, dtype):
    begin, logs = nccl

    def work(ranks):
        begin(ranks)
        said = take_cards(ranks)
        x, out = (np.full((2, 3), value, dtype) for value in (ranks.rank + 1, 0))
        arrival = ranks.begin_total(FakeArray(x), FakeArray(out))
        assert arrival.Test()
        arrival.Wait()
        nothing = np.empty((0, 3), dtype)
        ranks.begin_total(FakeArray(nothing), FakeArray(nothing.copy())).Wait()
        with pytest.raises(TypeError, match="FakeArray of int64, into FakeArray of int64; expected"):
            ranks.begin_total(FakeArray(np.arange(3)), FakeArray(np.arange(3)))
        for odd in (out.T, out[:1], out.astype(np.float16)):
            with pytest.raises(TypeError, match="expected arrays of float32 or float64, alike"):
                ranks.begin_total(FakeArray(x), FakeArray(odd))
        return said, out

    for said, out in on_ranks(3, work):
        assert said == "3 ranks take a card each; sums go from card to card (NCCL 2.28.7)"
        assert (out == 6).all()
    for rank, log in logs.items():
        assert log[0] == (3, (1, 2, 3), rank)
        before, after = ["main records", "side waits for main"], ["side records", "main waits for side"]
        assert log[1:] == [*before, "sums", *after, *before, *after]


def test_ranks_of_whom_one_has_nccl_go_through_the_host(nccl):
    begin, _ = nccl

    def work(ranks):
        begin(ranks)
        cards._nccl().available = ranks.rank == 0
        return take_cards(ranks), ranks.card_sums

    for said, way in on_ranks(2, work):
        assert "through the host's memory (NCCL cannot be loaded: CuPy does not find it" in said
        assert isinstance(way, ThroughTheHost)


def test_nothing_is_connected_before_the_first_sum_and_failing_is_said(nccl):
    begin, logs = nccl

    def fail(*args):
        raise RuntimeError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")

    def work(ranks):
        begin(ranks)
        take_cards(ranks)
        assert logs[ranks.rank] == []
        cards._nccl().NcclCommunicator = fail
        with pytest.raises(UserError, match=r"by NCCL: NCCL_ERROR_SYSTEM_ERROR.*NCCL_DEBUG=INFO"):
            ranks.begin_total(FakeArray(np.ones(2)), FakeArray(np.ones(2)))

    on_ranks(2, work)


# --- through the host, in the simulator or on the one card there is ---


def test_arrays_on_a_card_are_added_up_there():
    def work(ranks):
        x = kernels.to_device(np.full((3, 2), ranks.rank + 1, np.float32))
        total = ranks.total(x.T)
        assert kernels.on_device(total)
        return kernels.to_host(total), ranks.total(np.full(2, ranks.rank + 1.0))

    for total, of_hosts in on_cards(3, work):
        assert total.shape == (2, 3) and (total == 6).all() and (of_hosts == 6).all()


def test_without_cards_nothing_on_a_card_can_be_added_up():
    def work(ranks):
        with kernels.use("cuda"):
            return ranks.total(kernels.to_device(np.ones(2, np.float32)))

    with pytest.raises(AssertionError, match="have not taken cards"):
        on_ranks(2, work)


def test_gradients_on_a_card_travel_in_buckets():
    def work(ranks):
        adding = GradientSum(ranks, ("a", "b"), {"b": kernels.to_device(np.ones(3, np.float32))}, bucket=8)
        adding.ready({"a": kernels.to_device(np.full((2, 2), ranks.rank, np.float32))})
        adding.ready({"b": kernels.to_device(np.full(3, 2.0, np.float32)), "unwanted": None})
        return kernels.to_host(adding.finish())

    for found in on_cards(2, work):
        assert list(found) == ["a", "b"]
        assert (found["a"] == np.ones((2, 2))).all() and (found["b"] == 6).all()


@pytest.mark.parametrize("sizes", [(2, 1), (0, 2), (0, 0)])
def test_batch_norm_over_ranks_is_that_of_all_maps(sizes):
    rng = np.random.default_rng(0)
    maps, dys = ([rng.standard_normal((n, 3, 2, 4)).astype(np.float32) for n in sizes] for _ in range(2))
    parameters = [rng.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4)]

    def of(x, dy, ranks):
        own = [p.copy() for p in parameters]
        if ranks.card_sums is not None:
            x, dy, own = kernels.to_device((x, dy, own))
        with of_all(ranks):
            y, cache = batch_statistics_norm(x, *own, eps=1e-3, momentum=0.1)
        return kernels.to_host((y, *batch_statistics_norm_backward(dy, cache), *own[2:]))

    there = on_cards(len(sizes), lambda ranks: of(maps[ranks.rank], dys[ranks.rank], ranks))
    with kernels.use("numpy"):
        here = on_ranks(len(sizes), lambda ranks: of(maps[ranks.rank], dys[ranks.rank], ranks))
    for own, expected in zip(there, here):
        for a, b in zip(own, expected):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_who_drifts_takes_over_the_first_ones_parameters():
    def work(ranks):
        params = {"w": kernels.to_device(np.full(3, ranks.rank, np.float32))}
        same = params["w"]
        alike(params, {}, ranks)
        assert params["w"] is same
        return kernels.to_host(same)

    for found in on_cards(2, work):
        assert (found == 0).all()
