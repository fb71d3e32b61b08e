"""Every layer of a configuration with its sizes: how much there is to do and, on a GPU, to keep.

Nothing runs and nothing is allocated: sizes follow from the configuration and the size of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from math import prod
from typing import Any, NamedTuple, TypeVar, cast

import kernels
from kernels import device_memory

from .backbone import architecture, map_channels, stages_on_the_image
from .config import Config
from .errors import DeviceMemoryError
from .network import spec
from .params import Spec
from .rpn import conv_names
from .vgg import VGGS, vgg_layers

F = TypeVar("F", bound=Callable[..., Any])

FLOAT = 4  # bytes
#: what a training step keeps of each parameter: itself, its gradient, its velocity
TRAINED = 3
#: maps of the largest layer's size that are alive at once besides what is kept: gradients, a copy, a workspace
TRANSIENT = 4


class Layer(NamedTuple):
    """One convolution (or, with maps of one pixel, a fully connected layer).

    Attributes
    ----------
    name : str
        Of its parameters.
    maps : (int, int, int)
        Number, rows and columns of its output maps.
    kernel : int
        Side of the kernel; of a transposed convolution each output pixel meets a quarter of its taps.
    c_in, c_out : int
    stride : int
    groups : int
    """

    name: str
    maps: tuple[int, int, int]
    kernel: int
    c_in: int
    c_out: int
    stride: int = 1
    groups: int = 1

    @property
    def outputs(self) -> int:
        """Numbers that it puts out."""
        return prod(self.maps) * self.c_out

    @property
    def inputs(self) -> int:
        """Numbers that it reads, weights aside."""
        return prod(self.maps) * self.stride**2 * self.c_in // (4 if self.transposed else 1)

    @property
    def weights(self) -> int:
        """Numbers in its kernel."""
        return self.kernel**2 * self.c_in // self.groups * self.c_out

    @property
    def transposed(self) -> bool:
        """Whether it is the transposed convolution of the mask head or of the keypoint head, both of stride 2."""
        return self.name.endswith("_head.deconv")

    @property
    def operations(self) -> int:
        """Multiplications and additions of the forward pass, computed directly."""
        taps = self.kernel**2 // (4 if self.transposed else 1)
        return 2 * self.outputs * taps * self.c_in // self.groups


def layers(
    config: Config, size: tuple[int, int], *, images: int = 1, rois: int = 1000, masks: int = 100
) -> list[Layer]:
    """List the layers in the order of the data flow.

    Parameters
    ----------
    config : Config
    size : (int, int)
        Rows and columns of the padded images, multiples of 32.
    images : int
        In the batch.
    rois, masks : int
        Regions that the box head and the mask head see, of all images together.
    """
    tensors = spec(config)
    backbone = _vgg if config.backbone in VGGS else _backbone
    found = list(backbone(config, tensors, size, images))
    grids = [(images, -(-size[0] // s), -(-size[1] // s)) for s in config.cells]
    if config.neck == "fpn":
        for level, grid in reversed(list(zip((2, 3, 4, 5), grids))):
            for kind in ("lateral", "output"):
                found.append(_layer(tensors, f"fpn.{kind}{level}", grid))
    for name in (*conv_names(config), "rpn.objectness", "rpn.deltas"):
        found += [_layer(tensors, name, grid) for grid in grids]
    box, mask = config.box_pool_size, config.mask_pool_size
    if config.box_head == "c5":
        # both heads share it in training; in inference it runs on the detections again
        found += _stage(config, tensors, 5, (rois, box, box))
    for name in (name.removesuffix(".w") for name in tensors if name.endswith(".w")):
        if name.startswith("box_head."):
            side = 1 if config.box_head == "conv" or len(tensors[f"{name}.w"].shape) == 2 else box
            found.append(_layer(tensors, name, (rois, side, side)))
        if name.startswith("mask_head."):
            side = mask if ".conv" in name else 2 * mask
            found.append(_layer(tensors, name, (masks, side, side)))
        if name.startswith("keypoint_head."):
            side = config.keypoint_pool_size * (1 if ".conv" in name else 2)
            found.append(_layer(tensors, name, (masks, side, side)))
    return found


def _layer(tensors: dict[str, Spec], name: str, maps: tuple[int, int, int], stride: int = 1, groups: int = 1) -> Layer:
    *kernel, c_in, c_out = tensors[f"{name}.w"].shape
    return Layer(name, maps, kernel[0] if kernel else 1, c_in * groups, c_out, stride, groups)


def _vgg(config: Config, tensors: dict[str, Spec], size: tuple[int, int], images: int) -> Iterator[Layer]:
    for halvings, layers_of_stage in enumerate(vgg_layers(config)):
        for name, _, _ in layers_of_stage:
            yield _layer(tensors, f"backbone.{name}", (images, size[0] >> halvings, size[1] >> halvings))


def _backbone(config: Config, tensors: dict[str, Spec], size: tuple[int, int], images: int) -> Iterator[Layer]:
    rows, columns = (-(-side // 2) for side in size)
    yield _layer(tensors, "backbone.stem.conv", (images, rows, columns), 2)
    maps = images, -(-rows // 2), -(-columns // 2)
    for stage in stages_on_the_image(config):
        layers_of_stage = list(_stage(config, tensors, stage, maps))
        yield from layers_of_stage
        maps = layers_of_stage[-1].maps


def _stage(config: Config, tensors: dict[str, Spec], stage: int, maps: tuple[int, int, int]) -> Iterator[Layer]:
    arch = architecture(config)
    number, rows, columns = maps
    for i in range(arch.blocks[stage - 2]):
        name = f"backbone.c{stage}.{i}"
        before, stride = (number, rows, columns), 2 if i == 0 and stage > 2 else 1
        rows, columns = -(-rows // stride), -(-columns // stride)
        after = number, rows, columns
        if f"{name}.shortcut.conv.w" in tensors:
            yield _layer(tensors, f"{name}.shortcut.conv", after, stride)
        first_strides = arch.kind == "basic" or config.stride_in_1x1
        yield _layer(tensors, f"{name}.conv1", after if first_strides else before, stride if first_strides else 1)
        groups = 1 if arch.kind == "basic" else arch.groups
        yield _layer(tensors, f"{name}.conv2", after, 1 if first_strides else stride, groups)
        if arch.kind == "bottleneck":
            yield _layer(tensors, f"{name}.conv3", after)


# --- memory of a device ----------------------------------------------------------------------------------------------


def within_memory(shape: Callable[[Config, Any], tuple[int, ...]], *, training: bool) -> Callable[[F], F]:
    """Let a method of ``MaskRCNN`` say how much memory it needs when a device has too little.

    Parameters
    ----------
    shape : callable
        Takes the configuration and the method's first argument and returns the shape of its images, (N, H, W, 3).
    training : bool
        Is it a part of a training step, or a detection?
    """

    def decorate(method: F) -> F:
        @wraps(method)
        def call(model: Any, first: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(model, first, *args, **kwargs)
            except MemoryError as error:
                if kernels.backend() != "cuda" or isinstance(error, DeviceMemoryError):
                    raise
                raise DeviceMemoryError(_too_little(model.config, shape(model.config, first), training)) from error

        return cast(F, call)

    return decorate


def _too_little(config: Config, shape: tuple[int, ...], training: bool) -> str:
    images, height, width = shape[:3]
    needed = memory(config, (height, width), images=images, training=training)
    found = device_memory()
    there = "" if found is None else f"; it has {found[1] / 2**30:.1f} GiB, of which {found[0] / 2**30:.1f} are free"
    count = "one image" if images == 1 else f"{images} images"
    what = f"a training step of {count}" if training else "a detection in an image"
    return (
        f"the GPU's memory is full: {what} of {height} x {width} pixels needs about {needed / 2**30:.1f} GiB{there}. "
        "Smaller images need less (--size, image_max_size), and so does a smaller batch in training"
    )


def memory(config: Config, size: tuple[int, int], *, images: int = 1, training: bool) -> int:
    """Estimate the bytes that a training step or a detection needs on a device.

    Parameters
    ----------
    config : Config
    size : (int, int)
        As in ``layers``.
    images : int
    training : bool
        With all activations kept, gradients and velocities; else one image after the other.
    """
    parameters = FLOAT * sum(prod(tensor.shape) for tensor in spec(config).values())
    if training:
        rois = config.rois_per_image * images
        masks = int(rois * config.roi_positive_fraction)
    else:
        rois, masks, images = config.proposals_post_nms_test, config.detections_per_image, 1
    every = layers(config, size, images=images, rois=rois, masks=masks)
    pooled = map_channels(config) * (rois * config.box_pool_size**2 + masks * config.mask_pool_size**2)
    largest = max(layer.outputs for layer in every)
    if training:
        kept = sum(layer.outputs for layer in every)
        return TRAINED * parameters + FLOAT * (kept + 2 * pooled + TRANSIENT * largest)
    ends = [layer.outputs for layer in every if layer.name.startswith(("fpn.", "rpn.objectness", "rpn.deltas"))]
    pasted = masks * size[0] * size[1]  # a byte each
    heads = max(pooled, *(layer.outputs for layer in every if "_head." in layer.name))
    return parameters + FLOAT * (2 * sum(ends) + TRANSIENT * max(largest, heads)) + pasted
