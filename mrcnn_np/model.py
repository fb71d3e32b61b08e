"""The wiring: ``losses``, ``backward`` and ``detect`` each read as the architecture.

::

    images -> backbone -> C2..C5 -> fpn -> P2..P6 -> rpn_head -> logits, deltas -> propose -> proposals
                                            |                                                    |
                                            +--- P2..P5 -> pyramid_roi_align (7x7) <- RoIs ------+
                                            |                     |                              |
                                            |                  box_head -> class logits, deltas  |
                                            |                                                    |
                                            +--- P2..P5 -> pyramid_roi_align (14x14) <- positives (training)
                                                                  |             or detections (inference)
                                                               mask_head -> mask logits

In training the mask head sees the positive RoIs; in inference it sees the final detections, which are fewer and better
placed than the proposals. Boxes are constants: no gradient flows from a RoI's features into its coordinates.

Without a pyramid (``neck="none"``) the last map of the backbone, at 1/16 of the image, stands in the place of all
levels, and where the box head is C5 (``box_head="c5"``) it comes before both heads. Without the mask branch
(``mask_branch=False``) this is Faster R-CNN.

With ``config.keypoints`` a keypoint head reads the same RoIs as the mask head, beside it or in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kernels
from kernels import on_device, place, to_device, to_host

from .anchors import network_anchors
from .backbone import BackboneCache, BlockCache, backbone, backbone_backward
from .boxes import whole_boxes
from .config import Config
from .detections import Detections, own_masks, paste_masks, refine, unmold
from .errors import CheckpointError, ConfigError, NonFiniteError, WeightFileError
from .fpn import FpnCache, fpn, fpn_backward
from .heads import (
    BoxHeadCache,
    MaskHeadCache,
    box_head,
    box_head_backward,
    c5_head,
    c5_head_backward,
    mask_head,
    mask_head_backward,
)
from .keypoints.head import KeypointHeadCache, keypoint_head, keypoint_head_backward
from .keypoints.labels import head_keypoint_loss, head_keypoint_loss_backward
from .keypoints.peaks import heatmap_peaks
from .keypoints.pose import pose_of
from .layers import Observe, shown
from .molding import Batch, Molding, as_images, at_size, mold_image, plan
from .network import check, initialise
from .objective import (
    KEYPOINT_LOSS,
    LossCache,
    head_box_loss,
    head_box_loss_backward,
    head_class_loss,
    head_class_loss_backward,
    head_mask_loss,
    head_mask_loss_backward,
    loss_weights,
    rpn_box_loss,
    rpn_box_loss_backward,
    rpn_class_loss,
    rpn_class_loss_backward,
)
from .params import Params, count, first_non_finite
from .proposals import propose
from .pyramid import PyramidAlignCache, pyramid_roi_align, pyramid_roi_align_backward
from .rpn import RpnCache, rpn_head, rpn_head_backward
from .sizes import within_memory
from .targets import Targets, roi_targets, rpn_targets
from .training.freezing import frozen_stages
from .vgg import VggCache


class FirstStageCaches(NamedTuple):
    """What the parts before the proposals leave for their way back; None after inference."""

    backbone: BackboneCache | VggCache | None
    fpn: FpnCache | None
    rpn: RpnCache | None


@dataclass
class Cache:
    """What ``losses`` leaves for ``backward``: the cache of every part, and the targets that were used.

    ``images`` is the shape of the batch, (N, H, W, 3). What the configuration does not have is None, or empty: ``fpn``
    without a pyramid, ``c5`` unless it is the head, ``mask_align`` and ``mask_head`` without the mask branch, and
    ``mask_align`` where the mask head reads what the box head read; ``keypoint_align`` and ``keypoint_head`` without
    keypoints.
    """

    backbone: BackboneCache | VggCache | None
    fpn: FpnCache | None
    rpn: RpnCache | None
    box_align: PyramidAlignCache
    c5: list[BlockCache | None]
    box_head: BoxHeadCache | None
    mask_align: PyramidAlignCache | None
    mask_head: MaskHeadCache | None
    losses: dict[str, LossCache]
    targets: Targets
    images: tuple[int, ...]
    keypoint_align: PyramidAlignCache | None = None
    keypoint_head: KeypointHeadCache | None = None

    @property
    def positives(self) -> dict[str, int]:
        """How many anchors and RoIs of the batch should find an object: what the box and mask losses are made of.

        Read off shapes, so that nothing is fetched from a device.
        """
        return {"rpn_positives": len(self.losses["rpn_box"].terms), "roi_positives": len(self.losses["head_box"].terms)}

    def __repr__(self) -> str:
        """Return the shapes of the targets, by which all else is known: the arrays are millions of numbers."""
        arrays = {name: getattr(self.targets, name) for name in self.targets.__dataclass_fields__}
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array is not None)
        return f"Cache(targets: {shapes})"


class MaskRCNN:
    """Mask R-CNN: a configuration and the parameters that belong to it.

    Parameters
    ----------
    config : Config
    params : dict of str to ndarray, optional
        Names and shapes must be those of ``network.spec(config)``. They are used, not copied. Under a backend with a
        device of its own the dict's arrays are moved there by the first call that computes, and back by the first
        under another backend (``settle``).
    rng : numpy.random.Generator, optional
        Draws fresh parameters when none are given; ``numpy.random.default_rng(0)`` if that is not given either.
    class_names : sequence of str, optional
        The background first; kept as ``model.class_names``, empty if they are not known.

    Raises
    ------
    CheckpointError
        If the parameters do not fit the configuration.
    NonFiniteError
        If a parameter holds NaN or infinity.
    ConfigError
        If there are more or fewer class names than classes.
    """

    def __init__(
        self,
        config: Config,
        params: Params | None = None,
        *,
        rng: np.random.Generator | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.config, self.class_names = config, tuple(class_names)
        if self.class_names and len(self.class_names) != config.num_classes:
            raise ConfigError(
                f"class_names has {len(self.class_names)} names; expected {config.num_classes}, the background first"
            )
        self.params = initialise(config, rng or np.random.default_rng(0)) if params is None else params
        check(self.params, config)
        bad = first_non_finite(self.params.items())
        if bad is not None:
            raise NonFiniteError(f"parameter {bad} holds NaN or infinity")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        class_names: Sequence[str] | str | None = None,
        preset: str | None = None,
        overrides: list[str] | None = None,
        **changes: Any,
    ) -> MaskRCNN:
        """Load a trained network: ``MaskRCNN.load("runs/shapes-tiny", detection_score_threshold=0.5)``.

        Parameters
        ----------
        path : str or Path
            The folder of a training run, a checkpoint, or any other file that ``weights.load.load_weights`` reads.
        class_names : sequence of str, or str, optional
            The background first; by default those that the file holds, or is presumed to know. A text is a list with
            commas, or the name of a file with one on each line, without the background.
        preset : str, optional
            Refuse weights of other conventions than these.
        overrides : list of str, optional
            ``field=value``: conventions that the file does not hold, or holds wrongly.
        **changes
            Fields of the configuration, such as ``detections_per_image``; those that change parameters do not fit.

        Returns
        -------
        MaskRCNN
            ``model.class_names`` are the names, empty if nothing is known of them.

        Raises
        ------
        UserError
            There is no such file, it cannot be read, or it holds a backbone only; the message says which.
        """
        from .weights.network import open_network
        from .weights.place import file_of

        path = file_of(path)
        text = class_names if isinstance(class_names, str) else None
        config, params, names = open_network(path, preset, overrides, text, **changes)
        if class_names is not None and text is None:
            names = tuple(class_names)
        try:
            return cls(config, params, class_names=names)
        except (CheckpointError, NonFiniteError) as error:
            raise WeightFileError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        """Return class, preset, backbone, number of parameters and classes."""
        config = self.config
        return (
            f"{type(self).__name__}({config.name}, {config.backbone}, {count(self.params):,} parameters, "
            f"{config.num_classes} classes)"
        )

    @property
    def dtype(self) -> type:
        """The floating-point type of the parameters, in which everything is computed."""
        return next(iter(self.params.values())).dtype.type

    def settle(self) -> bool:
        """Bring the parameters, **in place** of the dict's arrays, to where the active backend computes.

        What lies there already stays as it is, so they move once.

        Returns
        -------
        bool
            Is that a device?

        Raises
        ------
        ConfigError
            The backend has a device, and a parameter is not float32.
        """
        device = kernels.backend() == "cuda"
        if device and self.dtype is not np.float32:
            raise ConfigError(
                f"the parameters are {self.dtype.__name__}; the cuda backend computes in float32 only, numpy in both"
            )
        place(self.params, device=device)
        return device

    # --- training ---------------------------------------------------------------------------------------------------

    @within_memory(lambda _, batch: batch.images.shape, training=True)
    def losses(
        self, batch: Batch, rng: np.random.Generator | int, *, targets: Targets | None = None
    ) -> tuple[dict[str, float], Cache]:
        """Compute the five losses of a batch.

        With ``config.bn_mode == "train"`` this also moves the running statistics in ``params``.

        Parameters
        ----------
        batch : Batch
            Made by ``molding.make_batch``.
        rng : numpy.random.Generator, or the seed of one
            Chooses which anchors and RoIs are sampled. Every image gets a generator spawned from it, so two batches of
            one image draw what one batch of two would.
        targets : Targets, optional
            Use these instead of sampling: the losses are then a smooth function of the parameters, which a gradient
            check needs, and the same function that another implementation computes from the same choice.

        Returns
        -------
        losses : dict
            ``rpn_class, rpn_box, head_class, head_box, head_mask``, times ``config.loss_weights``. Without the mask
            branch ``head_mask`` is 0. With a keypoint branch there is ``head_keypoint``, too.
        cache : Cache
            For ``backward``; ``cache.targets`` are the targets that were used.

        Raises
        ------
        NonFiniteError
            If the proposal head's output holds NaN or infinity; the message names the first tensor on the way there
            that does. What goes wrong in the heads shows in the losses.

        Notes
        -----
        Under a backend with a device the batch is copied there first, and the five numbers come back at the end; all
        between stays there, the cache and the gradients of ``backward`` too.
        """
        if not isinstance(rng, np.random.Generator | int | np.integer):
            raise TypeError(f"rng is {type(rng).__name__}; expected a numpy.random.Generator, or the seed of one")
        rng = np.random.default_rng(rng)
        if self.settle():
            batch, targets = batch.on_device(), to_device(targets)
        config, params = self.config, self.params
        pyramid, rpn_logits, rpn_deltas, first_caches = self.first_stage(batch.images, training=True)
        if targets is None:
            targets = self.sample_targets(batch, pyramid, rpn_logits, rpn_deltas, rng)
        t = targets
        roi_features, box_align_cache = self.roi_features(
            pyramid, t.rois, t.image_index, config.box_pool_size, batch.images.shape
        )
        c5_trained = frozen_stages(params, config) < 5
        roi_features, c5_caches = c5_head(roi_features, params, config, training=c5_trained)
        class_logits, deltas, box_head_cache = box_head(roi_features, params, config, training=True)
        positive = np.flatnonzero(t.class_ids > 0)
        found = t.rois[positive], t.image_index[positive]

        values, caches = {}, {}
        values["rpn_class"], caches["rpn_class"] = rpn_class_loss(rpn_logits, t.rpn_labels)
        values["rpn_box"], caches["rpn_box"] = rpn_box_loss(rpn_deltas, t.rpn_labels, t.rpn_deltas, config)
        image_index = t.image_index if config.active_classes == "own" else np.zeros_like(t.image_index)
        active = batch.active_class_ids[image_index]
        values["head_class"], caches["head_class"] = head_class_loss(class_logits, t.class_ids, active, config)
        values["head_box"], caches["head_box"] = head_box_loss(deltas, t.class_ids, t.deltas, config)
        cache = Cache(
            *first_caches, box_align_cache, c5_caches, box_head_cache, None, None, caches, targets, batch.images.shape
        )
        if config.mask_branch:
            if config.box_head == "c5":
                features = roi_features[positive]  # shared: C5 need not run on them again
            else:
                size = config.mask_pool_size
                features, cache.mask_align = self.roi_features(pyramid, *found, size, batch.images.shape)
            mask_logits, cache.mask_head = mask_head(features, params, config, training=True)
        else:  # no masks are predicted: a loss over nothing
            positive, side = positive[:0], 2 * config.mask_pool_size
            mask_logits = np.zeros((0, side, side, config.num_classes), class_logits.dtype, like=class_logits)
        masks = t.masks[: len(positive)]
        values["head_mask"], caches["head_mask"] = head_mask_loss(mask_logits, t.class_ids[positive], masks)
        if config.keypoints:
            size, labels = config.keypoint_pool_size, _labels(t)
            features, cache.keypoint_align = self.roi_features(pyramid, *found, size, batch.images.shape)
            logits, cache.keypoint_head = keypoint_head(features, params, config, training=True)
            values[KEYPOINT_LOSS], caches[KEYPOINT_LOSS] = head_keypoint_loss(logits, labels, len(batch.images), config)
        weights = loss_weights(config)
        numbers = _numbers([values[name] for name in weights])
        return {name: weight * loss for (name, weight), loss in zip(weights.items(), numbers)}, cache

    def sample_targets(
        self,
        batch: Batch,
        pyramid: list[np.ndarray],
        rpn_logits: np.ndarray,
        rpn_deltas: np.ndarray,
        rng: np.random.Generator,
    ) -> Targets:
        """Choose the anchors and RoIs that carry losses, image by image, and what they should say.

        Parameters
        ----------
        batch : Batch
        pyramid : list of ndarray
            P2..P6, for the sizes of the anchors' grids.
        rpn_logits, rpn_deltas : ndarray of shape (N, A, 1 or 2), (N, A, 4)
            What the proposals are made of.
        rng : numpy.random.Generator
            Spawns one generator for each image.
        """
        config = self.config
        anchors = self.anchors(batch.images.shape[1:3], pyramid)
        all_anchors = np.concatenate(anchors)
        rpn, rois = [], []
        for n, image_rng in enumerate(rng.spawn(len(batch.images))):
            gt_boxes, gt_class_ids = batch.gt_boxes[n], batch.gt_class_ids[n]
            gt_masks, gt_crowd = batch.gt_masks[n], batch.gt_crowd[n]
            rpn.append(rpn_targets(all_anchors, gt_boxes, gt_crowd, config, image_rng))
            window = batch.moldings[n].proposal_window(config)
            proposals, _ = propose(rpn_logits[n], rpn_deltas[n], anchors, window, config, training=True)
            truth = (gt_boxes, gt_class_ids, gt_masks, gt_crowd)
            keypoints = batch.gt_keypoints[n] if batch.gt_keypoints else None
            window = batch.moldings[n].window
            rois.append(roi_targets(proposals, *truth, config, image_rng, window=window, gt_keypoints=keypoints))
        labels = [r.keypoints for r in rois if r.keypoints is not None]
        return Targets(
            rpn_labels=np.stack([labels for labels, _ in rpn]),
            rpn_deltas=np.stack([deltas for _, deltas in rpn]),
            rois=np.concatenate([r.rois for r in rois]),
            image_index=np.repeat(np.arange(len(rois), like=all_anchors), [len(r.rois) for r in rois]),
            class_ids=np.concatenate([r.class_ids for r in rois]),
            deltas=np.concatenate([r.deltas for r in rois]),
            masks=np.concatenate([r.masks for r in rois]),
            keypoints=np.concatenate(labels) if labels else None,
        )

    @within_memory(lambda _, cache: cache.images, training=True)
    def backward(
        self, cache: Cache, *, consume: bool = False, ready: Callable[[Params], None] = lambda grads: None
    ) -> Params:
        """Return the gradient of the sum of the losses for every trainable parameter above the frozen stages.

        Read it beside ``losses`` and ``first_stage``, from the last line up. Only two lines are not where they would
        be: the gradients of the RoIs' features go back to the pyramid after the proposal head, because they are added
        to the one that it returns. So the pyramid's gradient is the sum of three: from the proposal head, from the
        masks and from the boxes; and of a fourth from the keypoints, where the network has them.

        Parameters
        ----------
        cache : Cache
            From ``losses``.
        consume : bool
            Let go of the activations of every part, in the backbone of every block, as soon as their gradients are
            known. The cache is of no use afterwards.
        ready : callable
            Called with the gradients after every part, in the backbone after every block, of a VGG after every
            convolution: those that are there by then are complete.

        Returns
        -------
        dict of str to ndarray
            Same names and shapes as the trainable parameters; without those of the stages that ``config.frozen`` keeps
            from the stem on, below which the backward pass does not go. They lie where the parameters do.
        """
        cache = to_device(cache) if self.settle() else to_host(cache)

        def part(name: str) -> Any:
            value = getattr(cache, name)
            if consume:
                setattr(cache, name, None)
            return value

        grads: Params = {}
        weight = loss_weights(self.config)

        ddeltas = head_box_loss_backward(weight["head_box"], cache.losses["head_box"])
        dclass_logits = head_class_loss_backward(weight["head_class"], cache.losses["head_class"])
        drpn_deltas = rpn_box_loss_backward(weight["rpn_box"], cache.losses["rpn_box"])
        drpn_logits = rpn_class_loss_backward(weight["rpn_class"], cache.losses["rpn_class"])

        frozen, after_block = frozen_stages(self.params, self.config), partial(ready, grads)
        branches = []  # of the pyramid's gradient, with the way that they came
        if KEYPOINT_LOSS in weight:
            dlogits = head_keypoint_loss_backward(weight[KEYPOINT_LOSS], cache.losses[KEYPOINT_LOSS])
            dfeatures = keypoint_head_backward(dlogits, part("keypoint_head"), grads)
            ready(grads)
            branches.append((dfeatures, part("keypoint_align")))
        if self.config.mask_branch:
            dmask_logits = head_mask_loss_backward(weight["head_mask"], cache.losses["head_mask"])
            dmask_features = mask_head_backward(dmask_logits, part("mask_head"), grads)
            ready(grads)
            if cache.mask_align is not None:
                branches.append((dmask_features, part("mask_align")))
        droi_features = box_head_backward(dclass_logits, ddeltas, part("box_head"), grads)
        ready(grads)
        if self.config.box_head == "c5":
            if self.config.mask_branch:
                droi_features[np.flatnonzero(cache.targets.class_ids > 0)] += dmask_features
            if frozen < 5:
                droi_features = c5_head_backward(droi_features, part("c5"), grads, consume=consume, ready=after_block)
        dpyramid = rpn_head_backward(drpn_logits, drpn_deltas, part("rpn"), grads)
        ready(grads)
        if self.config.box_head != "c5" or frozen < 5:
            branches.append((droi_features, part("box_align")))
        for dfeatures, way in branches:
            pyramid_roi_align_backward(dfeatures, way, into=dpyramid[:4])  # +=; no RoI reads P6
        dmaps: Sequence[np.ndarray | None] = dpyramid
        if self.config.neck == "fpn":
            dmaps = fpn_backward(dpyramid, part("fpn"), grads, frozen=frozen)
            ready(grads)
        backbone_backward(dmaps, part("backbone"), grads, need_dx=False, consume=consume, ready=after_block)
        ready(grads)
        return grads

    # --- inference --------------------------------------------------------------------------------------------------

    def detect(self, images: Any) -> list[Detections]:
        """Find the objects in images of any sizes.

        Each image is molded and run by itself, so its result does not depend on its neighbours.

        Parameters
        ----------
        images : image, or sequence of images
            An image is an ndarray of shape (H, W, 3), uint8, RGB, or grey (H, W) of 8 or 16 bits; a picture that Pillow
            opened; or the path of a file.

        Returns
        -------
        list of Detections
            One for each image, in its pixels. For a single image the list has one entry, too.
        """
        return list(self.iter_detect(images))

    def iter_detect(self, images: Any) -> Iterator[Detections]:
        """Yield what ``detect`` returns, one image at a time, so that masks of many images need not fit in memory."""
        for image in as_images(images):
            molded, molding = self._mold(image)
            yield self.detect_molded(molded[None], molding).in_picture(image, self.class_names)

    @within_memory(lambda config, image: (1, *plan(image.shape[:2], config).molded_shape), training=False)
    def _mold(self, image: np.ndarray) -> tuple[np.ndarray, Molding]:
        """Mold an image where the active backend computes."""
        return mold_image(image, self.config, self.dtype, device=self.settle())

    def trace(self, image: Any) -> dict[str, np.ndarray]:
        """Run ``detect`` on one image and return every tensor on the way by its name, in the order of the data flow.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8, or Pillow image, or path
            As for ``detect``.

        Returns
        -------
        dict of str to ndarray
            ``molded``, ``c1`` ... ``p6``, ``rpn_logits.p2`` ... ``masks``: ``compare.trace`` lists all, with shapes.

        Raises
        ------
        ValueError
            Several images were given, or none.
        """
        from .compare.trace import trace_ours

        images = list(as_images(image))
        if len(images) != 1:
            raise ValueError(f"trace was given {len(images)} images; expected one")
        return trace_ours(self, images[0])

    @within_memory(lambda _, images: images.shape, training=False)
    def detect_molded(self, images: np.ndarray, molding: Molding, *, observe: Observe | None = None) -> Detections:
        """Run one molded image through the network and bring the result back to its original size.

        Parameters
        ----------
        images : ndarray of shape (1, H, W, 3)
        molding : Molding
            Where the image went.
        observe : callable, optional
            ``observe(name, tensor)`` is shown every tensor on the way, and may return another one to go on with;
            ``compare.trace`` lists the names.
        """
        images = to_device(images) if self.settle() else images
        config, params = self.config, self.params
        pyramid, rpn_logits, rpn_deltas, _ = self.first_stage(images, observe=observe)
        anchors, window = self.anchors(images.shape[1:3], pyramid), molding.proposal_window(config)
        proposals, _ = propose(rpn_logits[0], rpn_deltas[0], anchors, window, config, training=False, observe=observe)

        image_index = np.zeros_like(proposals[:, 0], np.int64)
        roi_features = self.head_features(pyramid, proposals, image_index, config.box_pool_size, images.shape)
        class_logits, deltas, _ = box_head(roi_features, params, config, observe=observe)
        boxes, class_ids, scores = refine(proposals, class_logits, deltas, molding.window, config, observe=observe)

        placed = boxes
        boxes, masks = self.masks_of(pyramid, placed, class_ids, molding, images.shape, observe=observe)
        found = Detections(boxes, class_ids, scores, masks, has_masks=config.mask_branch)
        if config.keypoints:
            size = config.keypoint_pool_size
            features, _ = self.roi_features(pyramid, placed, np.zeros_like(class_ids), size, images.shape)
            logits, _ = keypoint_head(features, params, config, observe=observe)
            # every box has a size of its own, to which its maps are enlarged: on the host, wherever they come from
            points, peaks = heatmap_peaks(*to_host((logits, placed)), method=config.keypoint_decode)
            keypoints = molding.unmold_points(points) - points.dtype.type(config.keypoint_offset)
            keypoints = shown(observe, "keypoints", keypoints)
            peaks = shown(observe, "keypoint_scores", peaks)
            found = replace(found, keypoints=keypoints, keypoint_scores=peaks, pose=pose_of(config))
        return to_host(found)

    def masks_of(
        self,
        pyramid: list[np.ndarray],
        boxes: np.ndarray,
        class_ids: np.ndarray,
        molding: Molding,
        shape: tuple[int, ...],
        *,
        observe: Observe | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bring final boxes back to the image and give them their masks.

        Parameters
        ----------
        pyramid : list of ndarray
            As from ``first_stage``.
        boxes : ndarray of shape (D, 4)
            ``(y1, x1, y2, x2)`` in molded pixels.
        class_ids : ndarray of shape (D,)
        molding : Molding
        shape : tuple (1, H, W, 3)
            Of the molded image.
        observe : callable, optional
            As in ``detect_molded``.

        Returns
        -------
        boxes : ndarray of shape (D, 4)
            In pixels of the original image.
        masks : ndarray of shape (D, H, W), bool
            At its size; all of each box where there is no mask branch.
        """
        config = self.config
        if not config.mask_branch:
            boxes = unmold(boxes, molding, config, observe=observe)
            return boxes, shown(observe, "masks", whole_boxes(boxes, molding.original_shape))
        features = self.head_features(pyramid, boxes, np.zeros_like(class_ids), config.mask_pool_size, shape)
        mask_logits, _ = mask_head(features, self.params, config, observe=observe)
        masks = own_masks(mask_logits, class_ids, observe=observe)
        boxes = unmold(boxes, molding, config, observe=observe)
        pasted = paste_masks(masks, boxes, molding.original_shape, config)
        return boxes, shown(observe, "masks", pasted)

    # --- shared by both ---------------------------------------------------------------------------------------------

    def first_stage(
        self, images: np.ndarray, *, training: bool = False, observe: Observe | None = None
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, FirstStageCaches]:
        """Run backbone, pyramid and proposal head.

        Parameters
        ----------
        images : ndarray of shape (N, H, W, 3)
            Molded.
        training : bool
            As in ``layers.conv_bn``.
        observe : callable, optional
            As in ``detect_molded``.

        Returns
        -------
        pyramid : list of ndarray
            ``[p2, ..., p6]``, or without a pyramid the backbone's last map.
        rpn_logits : ndarray of shape (N, A) or (N, A, 2)
        rpn_deltas : ndarray of shape (N, A, 4)
        caches : FirstStageCaches

        Raises
        ------
        NonFiniteError
            The proposal head's output holds NaN or infinity; the message names the first tensor that does.
        """
        config, params = self.config, self.params
        features, backbone_cache = backbone(images, params, config, training=training, observe=observe)
        pyramid, fpn_cache = features[-1:], None
        if config.neck == "fpn":
            pyramid, fpn_cache = fpn(features, params, config, training=training, observe=observe)
        logits, deltas, rpn_cache = rpn_head(pyramid, params, config, training=training, observe=observe)
        self._require_finite(images, features, pyramid, logits, deltas)
        return pyramid, logits, deltas, FirstStageCaches(backbone_cache, fpn_cache, rpn_cache)

    def anchors(self, image_shape: tuple[int, ...], pyramid: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the anchors of each level for a canvas of ``image_shape`` (H, W), in molded pixels: read, not written.

        Those of the last few sizes are kept: making them takes longer than some of the layers.
        """
        maps = tuple((p.shape[1], p.shape[2]) for p in pyramid)
        return list(_anchors_of(self.config, (image_shape[0], image_shape[1]), maps, self.dtype, on_device(pyramid[0])))

    def roi_features(
        self, pyramid: list[np.ndarray], boxes: np.ndarray, image_index: np.ndarray, size: int, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, PyramidAlignCache]:
        """Read size x size features of each RoI from the level of P2..P5 that fits it, or from the one map there is.

        Parameters
        ----------
        pyramid : list of ndarray
            P2..P6.
        boxes : ndarray of shape (R, 4)
            ``(y1, x1, y2, x2)`` in pixels of the molded images.
        image_index : ndarray of shape (R,), int64
            In which image each RoI lies.
        size : int
            Bins along one side.
        shape : tuple (N, H, W, 3)
            Of the molded images.
        """
        config = self.config
        return pyramid_roi_align(
            pyramid[:4],
            boxes,
            image_index,
            output_size=size,
            strides=config.anchor_strides[:4],
            canonical_size=config.roi_canonical_size,
            canonical_level=config.roi_canonical_level,
            rounding=config.roi_level_rounding,
            method=config.roi_method,
            sampling_ratio=config.roi_sampling_ratio,
            aligned=config.roi_aligned,
            reduce=config.roi_reduce,
            image_shape=(shape[1], shape[2]),
        )

    def head_features(
        self, pyramid: list[np.ndarray], boxes: np.ndarray, image_index: np.ndarray, size: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Read what a head reads in inference: ``roi_features``, and behind them C5 where that is the head.

        Parameters
        ----------
        pyramid, boxes, image_index, size, shape
            As in ``roi_features``; of C5, which both heads share, the size is always ``box_pool_size``.
        """
        size = self.config.box_pool_size if self.config.box_head == "c5" else size
        features, _ = self.roi_features(pyramid, boxes, image_index, size, shape)
        return c5_head(features, self.params, self.config)[0]

    def _require_finite(
        self,
        images: np.ndarray,
        features: list[np.ndarray],
        pyramid: list[np.ndarray],
        logits: np.ndarray,
        deltas: np.ndarray,
    ) -> None:
        """Stop before a NaN turns into boxes; the message names the first tensor that went wrong."""
        if np.isfinite(logits).all() & np.isfinite(deltas).all():
            return
        named = [("molded images", images), *self.params.items()]
        if self.config.neck == "fpn":
            named += [(f"c{level}", c) for level, c in zip((2, 3, 4, 5), features)]
        named += zip(self.config.levels, pyramid)
        named += [("rpn logits", logits), ("rpn deltas", deltas)]
        raise NonFiniteError(f"{first_non_finite(named)} holds NaN or infinity")

    def with_config(self, **changes: Any) -> MaskRCNN:
        """Return this network under other conventions: ``model.with_config(roi_aligned=False)``.

        Weights are shared with this one, but for those that have to be rewritten; see ``conventions.convert.changed``.
        """
        from .conventions.convert import changed

        config, params = changed(self.config, to_host(self.params), changes)
        names = self.class_names if len(self.class_names) == config.num_classes else ()
        return MaskRCNN(config, params, class_names=names)

    def at_size(self, size: int) -> MaskRCNN:
        """Return this network for pictures that are resized to another size: ``model.at_size(1024).detect(slide)``.

        It finds objects of as many pixels as those of the training had, whatever the size of the picture. With a larger
        area there are as many times more proposals and detections; weights are shared.

        Raises
        ------
        ConfigError
            A square's side must be a multiple of 32.
        """
        return MaskRCNN(at_size(self.config, size), self.params, class_names=self.class_names)


@lru_cache(maxsize=4)
def _anchors_of(
    config: Config, image_shape: tuple[int, int], maps: tuple[tuple[int, int], ...], dtype: type, device: bool
) -> tuple[np.ndarray, ...]:
    """Return the anchors of each level, on the device or the host."""
    levels = network_anchors(image_shape, config, feature_shapes=maps, dtype=dtype)
    if device:
        return tuple(map(to_device, levels))
    for level in levels:
        level.flags.writeable = False
    return tuple(levels)


def _labels(targets: Targets) -> np.ndarray:
    """Return the keypoints' labels; ``ValueError`` if the targets were drawn without them."""
    if targets.keypoints is None:
        raise ValueError("the targets have no keypoints; expected a label for each keypoint of each positive RoI")
    return targets.keypoints


def _numbers(values: list[Any]) -> list[float]:
    """Return numbers; those that are arrays of shape () on a device cross together."""
    if any(on_device(value) for value in values):
        return [float(value) for value in to_host(np.stack(values))]
    return values
