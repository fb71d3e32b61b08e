"""The images and draws of a step do not depend on how many ranks share it."""

import numpy as np
import pytest
from fake_ranks import on_ranks
from scenes import sample_of

from mrcnn_np import presets
from mrcnn_np.data.augment import augmented_as, leave_out
from mrcnn_np.errors import DataError
from mrcnn_np.parallel.ranks import ALONE
from mrcnn_np.training.batches import STEP, as_one_batch, stream
from mrcnn_np.training.loop import step_samples


class Images:
    """Images of several sizes, of which some cannot be read."""

    class_names = ("background", "thing")

    def __init__(self, bad=()):
        sizes = [(64, 64), (40, 40), (64, 90), (50, 50), (64, 64), (30, 30), (64, 64)]
        rng = np.random.default_rng(0)
        self.samples = [
            sample_of([(4, 4, 20, 20)], shape=s, name=f"i{k}", image=rng.integers(0, 256, (*s, 3), np.uint8))
            for k, s in enumerate(sizes)
        ]
        self.ids, self.bad = [s.image_id for s in self.samples], bad

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        if index in self.bad:
            raise DataError("is broken")
        return self.samples[index]


def config_of(**changes):
    own = {"image_min_size": 64, "image_max_size": 96, "batch_size": 4, "accumulate": 2, "scale_jitter": (0.8, 1.2)}
    return presets.torchvision(num_classes=2, **own | changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"flip_vertical": 0.5}, {"quarter_turns": 0.5, "crop": (0.5, 1.0)}, {"colour_jitter": (0.1, 0.0, 0.2)}],
)
def test_what_is_left_out_would_have_been_drawn(changes):
    config, sample = config_of(**changes), Images().load(0)
    drawn, left = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(3):
        augmented_as(sample, drawn, config)
    leave_out(3, left, config)
    assert drawn.random() == left.random()
    leave_out(0, left, config)
    assert drawn.random() == left.random()


def step_of(ranks, data, config, skipped, step=2):
    rng = stream(0, step, STEP)
    own = step_samples(data, config, seed=0, step=step, rng=rng, skipped=skipped, ranks=ranks)
    widths = [b.images.shape[2] for b in own[1]]
    ids, batches = as_one_batch(*own, config, skipped=skipped, ranks=ranks)
    return ids, [b.images for b in batches], [b.gt_boxes for b in batches], rng.random(), widths


@pytest.mark.parametrize("size, bad", [(2, ()), (3, (1, 5)), (4, (0,))])
def test_ranks_have_the_batches_of_one_process(size, bad):
    data, config = Images(bad), config_of()
    known = {} if bad else None
    ids, images, boxes, after, whole = step_of(ALONE, data, config, known)

    def work(ranks):
        skipped = {} if bad else None
        return *step_of(ranks, data, config, skipped), skipped

    found = on_ranks(size, work)
    assert any(width < wide for *_, widths, _ in found for width, wide in zip(widths, whole))  # some had to grow
    for theirs, _, _, drawn, _, skipped in found:
        assert theirs == ids and drawn == after
        assert set(skipped or {}) == set(known or {})
    for part in range(2):
        assert (np.concatenate([rank[1][part] for rank in found]) == images[part]).all()
        every = [box for rank in found for box in rank[2][part]]
        assert all((a == b).all() for a, b in zip(every, boxes[part], strict=True))
