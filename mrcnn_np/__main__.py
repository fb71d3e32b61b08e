"""``python -m mrcnn_np`` is ``mrcnn-np``."""

import sys

from .cli import main

sys.exit(main())
