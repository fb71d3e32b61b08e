"""Ranks without MPI: threads of one process that meet at a barrier. Their sums run in the order of the ranks."""

import threading

from mrcnn_np.parallel.ranks import Ranks


class Meeting:
    """What the threads share."""

    def __init__(self, size):
        self.size, self.barrier, self.values = size, threading.Barrier(size, timeout=900), [None] * size


class ThreadComm:
    """What ``Ranks`` uses of mpi4py's communicators."""

    def __init__(self, meeting, rank):
        self.meeting, self.rank, self.calls = meeting, rank, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.meeting.size

    def allgather(self, value):
        self.meeting.values[self.rank] = value
        self.meeting.barrier.wait()
        values = list(self.meeting.values)
        self.meeting.barrier.wait()
        return values

    def gather(self, value, root):
        values = self.allgather(value)
        return values if self.rank == root else None

    def bcast(self, value, root):
        return self.allgather(value)[root]

    def Allreduce(self, own, out):
        self.calls.append(own.nbytes)
        first, *others = self.allgather(own.copy())
        out[...] = first
        for other in others:
            out += other

    def Iallreduce(self, own, out):
        self.Allreduce(own, out)
        return Arrived()

    def Abort(self, code):
        self.meeting.barrier.abort()


class Arrived:
    def Test(self):
        return True

    def Wait(self):
        return None


def on_ranks(size, work):
    """Return what ``work(ranks)`` returns on each of so many ranks; the first error of any is raised."""
    meeting, results, errors = Meeting(size), [None] * size, []

    def one(rank):
        try:
            results[rank] = work(Ranks(ThreadComm(meeting, rank)))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def on_cards(size, work):
    """Do ``work(ranks)`` on so many ranks that share one card."""
    import kernels
    from kernels.cuda.machine import compiled, device
    from mrcnn_np.parallel.cards import take_cards

    if device.SIMULATED:
        _one_at_a_time(device.simulator, "run")
    else:
        _one_at_a_time(compiled, "machine_code")

    def one(ranks):
        with kernels.use("cuda"):
            take_cards(ranks)
            return work(ranks)

    return on_ranks(size, one)


def _one_at_a_time(module, name):
    """Let one thread after the other call a function: neither Numba's simulator nor its compiler is for several."""
    function, lock = getattr(module, name), threading.Lock()
    if getattr(function, "alone", False):
        return

    def alone(*args):
        with lock:
            return function(*args)

    alone.alone = True
    setattr(module, name, alone)
