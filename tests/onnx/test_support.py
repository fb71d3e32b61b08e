"""Every field of the configuration is followed, of training only, or refused by name; this needs no ONNX."""

import pytest

from mrcnn_np import presets
from mrcnn_np.config import Config, fields_where
from mrcnn_np.errors import ConfigError
from mrcnn_np.onnx import support
from mrcnn_np.onnx.support import FOLLOWED, TRAINING, require_supported, unknown_fields


def test_every_field_stands_in_one_list():
    followed = [name for names in FOLLOWED.values() for name in names]
    schedule = fields_where(lambda d: d.kind == "schedule")
    listed = ["name", *followed, *TRAINING, *schedule, *unknown_fields()]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(Config.__dataclass_fields__)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_can_be_written(name):
    config = presets.PRESETS[name]()
    require_supported(config)
    require_supported(config.replace(roi_reduce="max", roi_sampling_ratio=2))


def test_what_roi_align_of_onnx_cannot_do():
    with pytest.raises(ConfigError, match="roi_reduce is 'max' and roi_sampling_ratio 0; written as ONNX"):
        require_supported(presets.detectron2(roi_reduce="max"))
    require_supported(presets.matterport(roi_reduce="max", roi_sampling_ratio=0))  # which has no use for them


def test_a_field_in_no_list_may_have_its_default_only(monkeypatch):
    monkeypatch.setitem(support.FOLLOWED, "pasting", ("mask_threshold",))
    assert "mask_paste" in unknown_fields()
    require_supported(presets.tiny())
    with pytest.raises(ConfigError, match="mask_paste is 'plus_one'; written as ONNX can be a network with 'grid_s"):
        require_supported(presets.torchvision())
    monkeypatch.setitem(support.FOLLOWED, "export", ("neck", "mask_branch"))
    require_supported(presets.tiny(keypoint_offset=0.0))  # of a branch that this network lacks
    with pytest.raises(ConfigError, match=r"keypoint_offset is 0\.0; written as ONNX can be a network with 0\.5"):
        require_supported(presets.tiny(keypoints=3, keypoint_offset=0.0))
