"""How fast, how exact, how large: this project beside PyTorch and torchvision, in one run on one machine.

``mrcnn-np bench`` writes ``bench.md``, ``bench.json`` (every single time) and ``bench.png``.

- ``operations``: every operation by itself; ``network``: whole networks, how they scale and how they start
- ``presets``: time and memory of every preset; ``busy``: beside another program, for each threading layer
- ``timeline``: where the time of one ``detect`` and of one training step goes, layer by layer
- ``quiet``: whether the machine was quiet, and what follows if not
- ``timing``: turns, peaks of memory, errors; ``team``, ``worker``: contenders in processes of their own
- ``roofline``, ``machine``: what the numbers were measured on; ``first_detection``: what a start waits for
- ``markdown``, ``chart``: the tables and the picture

What is compared
----------------
Contenders get the same numbers (inputs, weights, gradients from above) and take turns: each round runs every contender
once, so that a disturbance of the machine hits all of them. A time is the median over the rounds; a ratio is the
framework's median over that of our cpu backend. PyTorch runs its convolutions in both memory formats, NCHW (its
default) and channels-last, and whole models too; SGD runs both ways. The ratio uses the faster.

Threads
-------
All contenders use the same number of threads (``--threads``), set by environment variables in fresh processes, because
OpenBLAS reads its own when NumPy is imported. What disturbs whom was measured on two cores:

- After a matrix product OpenBLAS' threads spin for 60 to 100 ms in the hope of another one. Until they sleep,
  everything else runs at about half speed, PyTorch's convolution (16 ms in place of 8) and ours (7 in place of 3.3)
  alike. (``OPENBLAS_THREAD_TIMEOUT=4`` in the environment shortens that to nothing; it is left as users have it.)
- The OpenMP threads of PyTorch and of Numba (two copies of libgomp) stop spinning within 5 ms: a product by NumPy
  right after them takes 32 ms in place of 26, and after 5 ms nothing is left to see.

So every contender rests ``timing.REST`` seconds before its turn. After a rest the threads have to be woken and the
caches are cold; so a short operation runs once before the clock starts, as it would find things in the midst of
a network. Models run in a process for each contender, which take turns too: only so can the peak of their memory be
told apart. It is that of the whole process, with the interpreter and the libraries, from when the model is loaded.

Quiet
-----
Another program on one of the cores ruins every figure of two threads, ratios first. So the peak of two threads is
measured beside that of one at the beginning and around each group of rows. Below 1.6 times the group is measured
again, up to three times in all; what is disturbed even then is marked in tables, numbers and the chart, and no target
counts it.

Errors
------
Each contender's first result is held against the reference in float64: the largest difference over the largest number.
For results that are decisions (boxes kept, pixels painted) it is the share that differs.

Rooflines
---------
``roofline.py`` measures what the cores can do in the same run: fused multiply-adds on registers, and streams through
memory. Convolutions are counted by their definition; Winograd's needs fewer multiplications, so it can exceed 100 %.
Bytes are the least that has to move: inputs once, outputs once.
"""
