"""Who takes what, and how the ranks talk; with threads in the place of processes."""

import sys

import numpy as np
import pytest
from fake_ranks import on_ranks

from mrcnn_np.errors import UserError
from mrcnn_np.parallel.launch import Launch
from mrcnn_np.parallel.ranks import ALONE, AT_ONCE, join


def test_by_itself_everything_is_its_own_and_nothing_is_imported():
    assert join(None) is ALONE
    assert (ALONE.rank, ALONE.size, ALONE.first, ALONE.several) == (0, 1, True, False)
    assert ALONE.share(5) == range(5)
    assert ALONE.gather("a") == ["a"]
    assert ALONE.of_first(lambda: 3) == ALONE.after_first(lambda: 3) == 3
    assert list(ALONE.spread(lambda x: x + 1, [1, 2])) == [2, 3]
    assert ALONE.threads(7) == 7
    assert "mpi4py" not in sys.modules


def test_by_itself_it_works_on_one_thing_at_a_time():
    done = []
    results = ALONE.spread(done.append, [1, 2, 3])
    next(results)
    assert done == [1]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_shares_are_neighbours_that_make_the_whole(size, count):
    shares = on_ranks(size, lambda ranks: ranks.share(count))
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 3 * AT_ONCE, 3 * AT_ONCE + 2, 40])
def test_results_come_in_order_to_the_first_rank_only(count):
    worked = {}

    def work(ranks):
        mine = worked.setdefault(ranks.rank, [])
        return list(ranks.spread(lambda x: mine.append(x) or 10 * x, range(count)))

    first, *others = on_ranks(3, work)
    assert first == [10 * x for x in range(count)]
    assert others == [[], []]
    assert sorted(x for mine in worked.values() for x in mine) == list(range(count))
    assert max(map(len, worked.values())) - min(map(len, worked.values())) <= 1


def test_the_first_goes_before_the_others_and_no_one_on_before_all_have():
    order = []

    def work(ranks):
        made = ranks.after_first(lambda: order.append(ranks.rank) or ranks.rank)
        order.append("on")
        return made, ranks.of_first(lambda: f"of {ranks.rank}"), ranks.gather(ranks.rank)

    assert on_ranks(3, work) == [(rank, "of 0", [0, 1, 2]) for rank in range(3)]
    assert order[0] == 0 and sorted(order[1:3]) == [1, 2] and order[3:] == ["on"] * 3


def test_sums():
    def work(ranks):
        own = np.arange(6.0).reshape(2, 3).T + ranks.rank  # not contiguous
        out = np.empty(3)
        ranks.begin_total(np.full(3, 1.0 + ranks.rank), out).Wait()
        return ranks.total(own), out

    for total, out in on_ranks(3, work):
        assert (total == 3 * np.arange(6.0).reshape(2, 3).T + 3).all()
        assert (out == 6).all()
    x = np.ones(2)
    assert ALONE.total(x) is x


def test_threads_are_divided_among_those_on_the_same_cores():
    assert on_ranks(2, lambda ranks: ranks.threads(4)) == [2, 2]
    assert on_ranks(3, lambda ranks: ranks.threads(2)) == [1, 1, 1]


def test_without_mpi4py_several_processes_are_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match=r"one of 4 processes.*mpi4py.*pip install 'mrcnn-np\[mpi\]'.*without mpirun"):
        join(Launch(1, 4))


def test_mpi_of_another_kind_sees_nobody_and_that_is_an_error(monkeypatch):
    class World:
        def Get_size(self):
            return 1

    class MPI:
        COMM_WORLD = World()

        @staticmethod
        def get_vendor():
            return "MPICH", (5, 0, 2)

    package = type(sys)("mpi4py")
    package.MPI = MPI
    monkeypatch.setitem(sys.modules, "mpi4py", package)
    with pytest.raises(UserError, match=r"started 4, but mpi4py's MPI, MPICH 5.0.2, sees 1"):
        join(Launch(0, 4))
