"""What must be known about weights besides their numbers, and the tables that say why weights do not fit.

The same numbers mean something else when the image is BGR, when the stride sits on the other convolution, or when the
background is the last class. None of this can be read off the tensors. A manifest keeps it with them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any

from ..config import Config, fields_where
from ..config.presets import base
from ..errors import ConfigError, WeightFileError, WeightMismatchError
from ..network import spec as network_spec
from ..params import Spec
from ..schema import Optional, loads, one_line
from ..tables import text_table

#: key of the manifest in the metadata of a safetensors file
KEY = "mrcnn_np_manifest"
#: rows of one kind that a table shows before it only counts
SHOWN = 12

#: what is usually presumed, because it stands in no file
PRESUMED = fields_where(lambda d: d.weights == "backbone" and not d.in_tensors)


@dataclass(frozen=True)
class Manifest:
    """The conventions that belong to a set of weights.

    Attributes
    ----------
    source : str
        Whose file it is, and of what kind: ``"torchvision"``, ``"detectron2"``, ``"matterport"``, ``"mrcnn-np"`` ...
    preset : str
        Name of the preset that computes what the source computes.
    backbone : str
        A name in ``backbone.ARCHITECTURES``.
    num_classes : int or None
        With background; None if the weights are those of a backbone only.
    channel_order, pixel_scale, pixel_mean, pixel_std, stride_in_1x1, conv_bias, bn_eps
        As in ``Config``.
    class_names : tuple of str
        ``class_names[0]`` is the background. Empty: not known.
    delta_order, box_order : str
        How the *file* orders predicted deltas and boxes; parameters in memory are always (dy, dx, dh, dw).
    background : str
        Whether the file has the background as its ``"first"`` or ``"last"`` class; in memory it is the first.
    flatten_order : str
        Order in which the file's first fully connected layer reads the RoI features; in memory H W C.
    overrides : mapping
        Further config fields in which the source differs from the preset.
    presumed : tuple of str
        Fields that do not stand in the file: they are what the source usually has.
    """

    source: str
    preset: str
    backbone: str
    num_classes: int | None
    channel_order: str
    pixel_scale: float
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    stride_in_1x1: bool
    conv_bias: bool
    bn_eps: float
    class_names: tuple[str, ...] = ()
    delta_order: str = "dy dx dh dw"
    box_order: str = "y1 x1 y2 x2"
    background: str = "first"
    flatten_order: str = "H W C"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    presumed: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Config, *, source: str, backbone_only: bool = False, **fields: Any) -> Manifest:
        """Fill in what a configuration says.

        For example ``Manifest.from_config(presets.matterport(backbone="resnet50"), source="matterport",
        delta_order="dy dx dh dw")``.

        Parameters
        ----------
        config : Config
            Of the network whose weights these are.
        source : str
            Whose file it is.
        backbone_only : bool
            The file has no other tensors than the backbone's.
        **fields
            Attributes that a configuration does not have.
        """
        usual, named = base(config.name), {*BACKBONE_FIELDS, "name", "num_classes"}
        overrides = {
            name: value
            for name, value in config.to_dict().items()
            if name not in named and value != getattr(usual, name)
        }
        return cls(
            source=source,
            preset=config.name,
            num_classes=None if backbone_only else config.num_classes,
            overrides=overrides,
            **{name: getattr(config, name) for name in BACKBONE_FIELDS},
            **fields,
        )

    @property
    def architecture(self) -> str:
        """The network in words."""
        if self.num_classes is None:
            return f"{self.backbone}, backbone only"
        config = self.config()
        what = "Mask R-CNN" if config.mask_branch else "Faster R-CNN"
        neck = "with FPN" if config.neck == "fpn" else "without pyramid"
        return f"{what}, {self.backbone} {neck}, {self.num_classes} classes with background"

    def config(self, **changes: Any) -> Config:
        """Return the configuration under which these weights compute what their source computes."""
        fields = {name: getattr(self, name) for name in BACKBONE_FIELDS} | dict(self.overrides)
        if self.num_classes is not None:
            fields["num_classes"] = self.num_classes
        return base(self.preset).replace(**fields | changes)

    def spec(self, config: Config) -> dict[str, Spec]:
        """List the tensors of ``config``'s network that such weights hold: all, or those of the backbone.

        VGG's ImageNet weights have fc6 and fc7, too, which are the box head where that has their sizes.
        """
        spec = network_spec(config)
        if self.num_classes is not None:
            return spec
        fits = {"box_head.fc1.w": (25088, 4096), "box_head.fc2.w": (4096, 4096)}
        head = config.backbone == "vgg16" and all(name in spec and spec[name].shape == s for name, s in fits.items())
        own = ("backbone.", "box_head.fc") if head else ("backbone.",)
        return {name: s for name, s in spec.items() if name.startswith(own)}

    def differences(self, config: Config) -> list[tuple[str, Any, Any]]:
        """List (field, value of the weights, value of ``config``) where a network would misread the weights."""
        own = self.config()
        read = ("backbone",) if self.num_classes is None else ("backbone", "network")
        fields = fields_where(lambda d: d.weights in read)
        pairs = [(name, getattr(own, name), getattr(config, name)) for name in fields]
        return [(name, a, b) for name, a, b in pairs if a != b]

    def check(self, config: Config, source: object) -> None:
        """Raise ``WeightMismatchError`` with a table if ``config`` contradicts the manifest."""
        differences = self.differences(config)
        if differences:
            rows = [
                (name, _text(a) + (" (presumed)" if name in self.presumed else ""), _text(b))
                for name, a, b in differences
            ]
            lines = text_table(("convention", "the weights", f"configuration {config.name!r}"), rows, indent="  ")
            raise WeightMismatchError(f"{source} belongs to another configuration:\n{lines}")

    def describe(self) -> str:
        """Return a table of all fields."""
        rows = [("architecture", self.architecture)]
        for name, value in dataclasses.asdict(self).items():
            if name not in ("overrides", "presumed", "class_names", "num_classes", "backbone"):
                rows.append((name, _text(value) + (" (presumed)" if name in self.presumed else "")))
        rows += [(name, _text(value)) for name, value in self.overrides.items()]
        rows.append(("class_names", self._classes()))
        return text_table((), rows, indent="  ")

    def _classes(self) -> str:
        """Return the first names and the last."""
        if not self.class_names:
            return "not known"
        names = self.class_names if len(self.class_names) <= 8 else (*self.class_names[:6], "...", self.class_names[-1])
        return ", ".join(names) + (" (presumed)" if "class_names" in self.presumed else "")

    def to_json(self) -> str:
        """Return a text that ``from_json`` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str, source: object = "manifest") -> Manifest:
        """Read what ``to_json`` wrote; anything else is a ``WeightFileError``."""
        try:
            values = loads(text, SCHEMA, "it")
            if twice := set(values.get("overrides", {})) & {*BACKBONE_FIELDS, "name", "num_classes"}:
                raise ValueError(f"its overrides have {min(twice)!r}, which is a field of its own")
            manifest = cls(**{name: _tuples(value) for name, value in values.items()})
            config = manifest.config()  # names and types are those of a config
            if manifest.class_names and len(manifest.class_names) != config.num_classes:
                raise ValueError(f"{len(manifest.class_names)} class names for {config.num_classes} classes")
            return manifest
        except (ValueError, ConfigError) as error:
            raise WeightFileError(f"{source}: its manifest cannot be used: {one_line(error)}") from error


#: fields of the config that a manifest has by name; in what else the source differs from its preset is in ``overrides``
BACKBONE_FIELDS = tuple(
    name for name in fields_where(lambda d: d.weights == "backbone") if name in Manifest.__dataclass_fields__
)


_VALUE = (None, bool, int, float, str)
_KINDS = {
    "str": str, "float": float, "bool": bool, "int | None": (None, int), "tuple[float, ...]": [float],
    "tuple[str, ...]": [str], "Mapping[str, Any]": {str: (*_VALUE, [_VALUE])},
}  # fmt: skip
#: a manifest as JSON: of each attribute its kind; ``Config`` knows which of its fields has which value
SCHEMA = {
    each.name: _KINDS[str(each.type)] if each.default is MISSING and each.default_factory is MISSING
    else Optional(_KINDS[str(each.type)])
    for each in dataclass_fields(Manifest)
}  # fmt: skip


def match(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: object) -> None:
    """Check that tensors have the names and shapes expected.

    Parameters
    ----------
    found, expected : mapping of str to tuple of int
        The shapes of what a file holds, and of what the network needs.
    source : object
        The file, for the message.

    Raises
    ------
    WeightMismatchError
        With a table of what is missing, what is not expected, and which shapes differ; long lists end with a count.
    """
    missing = [(name, _text(shape), "missing") for name, shape in expected.items() if name not in found]
    unexpected = [
        (one_line(name, 100), "not expected", _text(shape)) for name, shape in found.items() if name not in expected
    ]
    shapes = [
        (name, _text(shape), _text(found[name]))
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if not (missing or unexpected or shapes):
        return
    counts = ((len(missing), "missing"), (len(unexpected), "not expected"), (len(shapes), "of another shape"))
    summary = ", ".join(f"{n} {what}" for n, what in counts if n)
    rows: list[tuple[str, ...]] = []
    for kind in (missing, unexpected, shapes):
        rows += kind[:SHOWN]
        if len(kind) > SHOWN:
            rows.append((f"... and {len(kind) - SHOWN} more", "", ""))
    lines = text_table(("tensor", "expected", "found"), rows, indent="  ")
    hint = _about_norms([row[0] for row in missing], [row[0] for row in unexpected])
    raise WeightMismatchError(f"{source} does not fit the network: of {len(expected)} tensors {summary}\n{lines}{hint}")


def _about_norms(missing: list[str], unexpected: list[str]) -> str:
    """Say what it means if the running statistics of norms, and nothing else, are missing or too many."""
    statistics = (".mean", ".var")
    if unexpected and not missing and all(name.endswith(statistics) for name in unexpected):
        return "\nthese weights have batch norm (norm = batch); the network has a norm without running statistics"
    if missing and not unexpected and all(name.endswith(statistics) for name in missing):
        return "\nthe network has batch norm (norm = batch); these weights have a norm without running statistics"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _tuples(value: Any) -> Any:
    """Turn JSON's lists into tuples, within a mapping too."""
    if isinstance(value, dict):
        return {name: _tuples(v) for name, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
