"""What the keypoints of a data set are called, which are joined by a line, and which change places in a mirror."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config


@dataclass(frozen=True)
class Pose:
    """The kinds of keypoints that objects have.

    Attributes
    ----------
    names : tuple of K str
    skeleton : tuple of pairs of int
        Kinds, from 0, that a picture joins by a line.
    """

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        """Return K."""
        return len(self.names)

    @property
    def mirrored(self) -> np.ndarray:
        """For each kind that whose place it takes in a mirror, (K,): a person's left hand becomes the right one.

        A name in which "left" and "right" change places is another kind's; one without these words stays what it is.
        """
        place = {name: k for k, name in enumerate(self.names)}
        return np.array([place.get(_mirrored(name), k) for k, name in enumerate(self.names)], np.int64)

    @property
    def sigmas(self) -> np.ndarray:
        """How far annotators differ in each kind, (K,), as a share of the object's size: COCO's for its 17.

        For other keypoints nobody measured it; there it is 1 / K for all, a common choice.
        """
        return COCO_SIGMAS if self.names == COCO_PERSON.names else np.full(len(self), 1 / len(self))


def _mirrored(name: str) -> str:
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "l": "r", "r": "l", "L": "R", "R": "L"}
    words = re.split(r"([\W_\d]+|(?<=[a-z])(?=[A-Z]))", name)  # left_eye, left eye, leftEye
    return "".join(other.get(word, word) for word in words)


COCO_PERSON = Pose(
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    (
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
)  # fmt: skip
"""The 17 keypoints of COCO's persons, in its order."""

COCO_SIGMAS = np.array(
    [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
) / 10.0  # fmt: skip
"""COCO's constants for them, from 5000 images that were annotated twice."""


@dataclass(frozen=True)
class Skeletons:
    """What a picture draws of the keypoints of several objects.

    Attributes
    ----------
    points : ndarray of shape (D, K, 2)
        ``(y, x)`` in pixels.
    drawn : ndarray of shape (D, K), bool
        Those that are drawn; a line is drawn where both its ends are.
    pose : Pose
    """

    points: np.ndarray
    drawn: np.ndarray
    pose: Pose

    @classmethod
    def of(cls, keypoints: np.ndarray, drawn: np.ndarray, pose: Pose) -> Skeletons:
        """Take keypoints as annotated, (D, K, 2 or more), whose whole numbers name pixels.

        Parameters
        ----------
        keypoints : ndarray of shape (D, K, 2 or more)
        drawn : ndarray of shape (D, K), bool
        pose : Pose
        """
        return cls(np.asarray(keypoints[..., :2], np.float64) + 0.5, np.asarray(drawn, bool), pose)

    def __getitem__(self, key: Any) -> Skeletons:
        """Return those of some objects, chosen by an array or a list."""
        return Skeletons(self.points[key], self.drawn[key], self.pose)

    def scaled(self, factor: float) -> Skeletons:
        """Return them in an image that is so many times as large."""
        return Skeletons(self.points * factor, self.drawn, self.pose)


def pose_of(config: Config) -> Pose | None:
    """Return the keypoints of a configuration: with its own names, COCO's if it has 17, else with numbers.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Pose or None
        None without a keypoint branch.
    """
    if not config.keypoints:
        return None
    if config.keypoint_names:
        ends = np.array(config.keypoint_skeleton, np.int64).reshape(-1, 2) - 1
        return Pose(config.keypoint_names, tuple((int(a), int(b)) for a, b in ends))
    if config.keypoints == len(COCO_PERSON):
        return COCO_PERSON
    return Pose(tuple(f"keypoint {k + 1}" for k in range(config.keypoints)))
