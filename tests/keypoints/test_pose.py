"""Names of keypoints: which change places in a mirror, what a configuration knows of them."""

import numpy as np
import pytest
from nets import small_config

from mrcnn_np.keypoints.pose import COCO_PERSON, Pose, Skeletons, pose_of


def test_left_and_right_of_a_person():
    assert COCO_PERSON.mirrored.tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


@pytest.mark.parametrize("names, mirrored", [
    (("left eye", "right eye"), [1, 0]), (("LeftEye", "nose", "RightEye"), [2, 1, 0]), (("l_ear", "r_ear"), [1, 0]),
    (("left_eye", "nose"), [0, 1]), (("bright", "cleft"), [0, 1]), ((), []), (("front-left", "front-right"), [1, 0]),
    (("leftHand", "rightHand", "rightFoot"), [1, 0, 2]),
])  # fmt: skip
def test_mirrored_names(names, mirrored):
    pose = Pose(names)
    assert pose.mirrored.tolist() == mirrored and np.array_equal(pose.mirrored[pose.mirrored], np.arange(len(pose)))


def test_pose_of_a_configuration():
    assert pose_of(small_config()) is None and pose_of(small_config(keypoints=17)) is COCO_PERSON
    named = small_config(keypoints=2, keypoint_names=("head", "tail"), keypoint_skeleton=(1, 2))
    assert pose_of(named) == Pose(("head", "tail"), ((0, 1),))
    assert pose_of(small_config(keypoints=2)).names == ("keypoint 1", "keypoint 2")


def test_sigmas():
    np.testing.assert_allclose(COCO_PERSON.sigmas[[0, 11]], [0.026, 0.107], rtol=1e-15)
    assert Pose(("a", "b", "c", "d")).sigmas.tolist() == [0.25] * 4


def test_skeletons_are_drawn_at_the_centres_of_pixels():
    drawn = Skeletons.of(np.array([[[3, 4, 2], [5, 6, 0]]]), np.array([[True, False]]), Pose(("a", "b")))
    assert drawn.points[0, 0].tolist() == [3.5, 4.5] and drawn[[0]].scaled(0.5).points[0, 0].tolist() == [1.75, 2.25]
