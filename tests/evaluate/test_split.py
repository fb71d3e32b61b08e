"""What a report of a split says beside its numbers."""

import numpy as np

from mrcnn_np.evaluate import Evaluation
from mrcnn_np.evaluate.split import SplitReport, never_taught

NAMES = ("background", "person", "car", "sheep")


def report(ap, gt):
    values = dict.fromkeys(("tp", "fp", "max_recall"), np.zeros(4)) | {"recall": (), "precision": (), "images": 4}
    of_kind = Evaluation("voc10", "mask", 0.5, NAMES, np.array(ap), float(np.nanmean(ap)), gt=np.array(gt), **values)
    return SplitReport({"mask": of_kind})


def test_objects_of_a_class_that_nothing_taught():
    some = report([np.nan, 0.5, np.nan, 0.0], [0, 21, 0, 13])
    assert never_taught(some, ()) == never_taught(some, ("car",)) == never_taught(SplitReport(), ("sheep",)) == []
    (said,) = never_taught(some, ("car", "sheep"))
    assert said.startswith("never taught: sheep (13 objects). No picture that the network was trained on shows this")
    assert said.endswith("its AP of 0 is part of the mean. Without it the mean is: mask AP 0.500")
    (said,) = never_taught(report([np.nan, np.nan, np.nan, 0.0], [0, 0, 0, 1]), ("sheep",))
    assert "sheep (1 object)." in said and said.endswith("part of the mean.")
