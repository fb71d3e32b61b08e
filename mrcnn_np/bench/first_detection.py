"""What a user waits for after the start: one detection by the tiny preset with the weights in ``sys.argv[1]``."""

import sys

from safetensors.numpy import load_file

from mrcnn_np import MaskRCNN
from mrcnn_np.config import presets
from mrcnn_np.synthetic import picture

if __name__ == "__main__":
    MaskRCNN(presets.tiny(), load_file(sys.argv[1])).detect([picture((128, 128))])
