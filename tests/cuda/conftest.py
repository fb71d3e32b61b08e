"""The kernels for a graphics card run here in Numba's simulator, in a process of their own.

Numba reads NUMBA_ENABLE_CUDASIM when it is imported, so without it these tests are left out.
"""

import os

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    collect_ignore_glob = ["test_*.py"]
