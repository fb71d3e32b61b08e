"""Where the time of one ``detect`` and of one training step goes, by part of the network and by layer.

``mrcnn-np bench --only timeline`` writes ``timeline.md``, a section of ``bench.md`` and ``timeline.png``.

- ``record``: cuts a run into slices: accelerated calls, and what lies between them
- ``work``: the arithmetic and the bytes of a call, by definition
- ``measure``: runs the network several times, and takes medians
- ``page``, ``picture``: what is written of it

Slices
------
A run is cut without a gap: every moment belongs to one part of the network, and within it either to an accelerated
call (``kernels.watch``) or to the Python and NumPy between two of them. So what parts take adds up to the whole.
Recording costs time too; the clock stands still while it is done.

Floors
------
Of a call it is the time that its arithmetic would take at the peak of the same process, or its bytes, whichever is
longer. Arithmetic is that of convolutions and fully connected layers, by their definition: Winograd's does less, and
its share of the floor can exceed 100 %. So can that of calls whose arrays lie in a cache. Bytes are those of all
arrays that go in or come out, once each. What lies between calls has no floor.
"""
