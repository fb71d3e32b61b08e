"""Every convention on which Mask R-CNN implementations differ, as one frozen dataclass; presets that fill it in.

A *preset* is one complete set of answers: ``presets.torchvision()`` is what torchvision computes,
``presets.matterport()`` what the Keras code computes, ``presets.detectron2()`` what detectron2 computes, and
``presets.tiny()`` is a small network that trains on a laptop. No operation asks which preset it runs under: it is
handed the field it needs.

The fields are documented in ``config/fields.py``: what each means, its unit or choices, and who does what.
``mrcnn-np conventions --list`` prints them.
"""

from . import presets as presets
from .config import DECLARATIONS as DECLARATIONS
from .config import Config as Config
from .config import check_names as check_names
from .config import fields_where as fields_where
from .declare import FRAMEWORKS as FRAMEWORKS
from .fields import LOG_1000_16 as LOG_1000_16
