import numpy as np

from mrcnn_np import presets
from mrcnn_np.data.masks import Masks
from mrcnn_np.data.remembered import Remembered, bytes_of
from mrcnn_np.data.sample import without_objects
from mrcnn_np.model import MaskRCNN
from mrcnn_np.training import loop


class Counted:
    """Four images of 16 x 16, and how often each was read."""

    class_names = ("background", "thing")
    ids = ("a", "b", "c", "d")

    def __init__(self):
        self.reads = [0, 0, 0, 0]

    def __len__(self):
        return 4

    def load(self, index):
        self.reads[index] += 1
        masks = np.zeros((2, 16, 16), bool)
        masks[0, 2:9, 3:8] = masks[1, 1:15, 5:14] = True
        blank = without_objects(np.full((16, 16, 3), 40 * index, np.uint8), self.ids[index])
        return blank.replace(
            gt_boxes=np.array([[2, 3, 9, 8], [1, 5, 15, 14]], np.float32),
            gt_class_ids=np.array([1, 1]),
            gt_masks=Masks.of_array(masks),
            gt_crowd=np.zeros(2, bool),
            gt_difficult=np.zeros(2, bool),
        )


def test_what_was_read_once_is_kept():
    dataset = Counted()
    remembered = Remembered(dataset)
    assert len(remembered) == 4 and remembered.ids == dataset.ids and remembered.class_names == dataset.class_names
    first = [remembered.load(i) for i in range(4)]
    assert all(remembered.load(i) is first[i] for i in (3, 1, 2, 0))
    assert dataset.reads == [1, 1, 1, 1]


def test_what_has_no_room_is_read_again():
    dataset = Counted()
    one = bytes_of(dataset.load(0))
    runs = sum(rle.counts.nbytes for rle in dataset.load(0).gt_masks.rles)
    assert one == 16 * 16 * 3 + 16 * 16 + 2 * (4 * 4 + 8 + 1 + 1) + runs
    dataset.reads = [0, 0, 0, 0]
    remembered = Remembered(dataset, room=2 * one + one // 2)
    for _ in range(3):
        for i in (2, 0, 3, 1):
            assert remembered.load(i).image_id == dataset.ids[i]
    assert dataset.reads == [1, 3, 1, 3]


def test_training_leaves_what_is_remembered_alone(tmp_path, monkeypatch):
    """Every augmentation and step works on copies: afterwards the samples are those of the data set."""
    kept = []
    monkeypatch.setattr(loop, "Remembered", lambda dataset: kept.append(Remembered(dataset)) or kept[0])
    changes = {"image_min_size": 64, "image_max_size": 64, "steps": 5, "batch_size": 2, "flip_vertical": 0.5}
    changes |= {"quarter_turns": 0.75, "crop": (0.5, 1.0), "scale_jitter": (0.5, 1.5), "colour_jitter": (0.3, 0.3, 0.3)}
    dataset = Counted()
    loop.train(MaskRCNN(presets.tiny(num_classes=2, **changes)), dataset, out_dir=tmp_path, progress=False)
    assert dataset.reads == [1, 1, 1, 1]
    for i in range(4):
        sample, again = kept[0].load(i), Counted().load(i)
        for name in vars(again):
            np.testing.assert_array_equal(getattr(sample, name), getattr(again, name))
