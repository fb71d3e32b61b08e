"""matterport's network of Keras layers, by its layer names: backbone, pyramid, proposal head, the two RoI heads.

The layers hold our parameters, brought into Keras's layout by ``weights.matterport``. They run eagerly, so every tensor
on the way can be kept, and ``tf.GradientTape`` sees them all. Where matterport wraps a layer in ``TimeDistributed`` to
run it on (N, R, h, w, C), the first two axes are one here: the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

# Before the import, which reads them
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from ...backbone import architecture
from ...config import Config
from ...weights.matterport import by_layer, from_matterport, to_matterport


class Network:
    """The layers, made when they are first called.

    Parameters
    ----------
    params : mapping of str to ndarray
        Ours; copied.
    config : Config

    Attributes
    ----------
    layers : dict of str to keras.layers.Layer
        By matterport's name.
    kept : dict of str to tf.Tensor
        Output of every residual block and of the stem, by the names of ``compare.trace``.
    """

    def __init__(self, params: Mapping[str, np.ndarray], config: Config) -> None:
        self.config = config
        self.weights = dict(by_layer(to_matterport(params)))
        self.layers: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}

    # --- one layer --------------------------------------------------------------------------------------------------

    def conv(
        self, name: str, x: Any, *, strides: int = 1, padding: str = "valid", activation: str | None = None
    ) -> Any:
        """Apply ``Conv2D``; its width and kernel size are those of the weights.

        Parameters
        ----------
        name : str
            Of matterport's layer.
        x : Tensor of shape (N, H, W, C)
        strides : int
        padding : {"valid", "same"}
        activation : str, optional
        """
        *size, _, filters = self.weights[name]["kernel"].shape
        return self._layer(
            name, keras.layers.Conv2D, x, filters, size, strides=strides, padding=padding, activation=activation
        )

    def norm(self, name: str, x: Any) -> Any:
        """Apply ``BatchNormalization`` with its moving statistics (``TRAIN_BN = False``), in training, too."""
        return self._layer(name, keras.layers.BatchNormalization, x, epsilon=self.config.bn_eps, training=False)

    def conv_norm(self, conv: str, norm: str, x: Any, *, relu: bool = True, **how: Any) -> Any:
        """Apply convolution, batch norm and usually ReLU.

        Parameters
        ----------
        conv, norm : str
            Names of the two layers.
        x : Tensor
        relu : bool
        **how
            Further options of ``conv``.
        """
        x = self.norm(norm, self.conv(conv, x, **how))
        return tf.nn.relu(x) if relu else x

    def dense(self, name: str, x: Any) -> Any:
        """Apply ``Dense``."""
        return self._layer(name, keras.layers.Dense, x, self.weights[name]["kernel"].shape[1])

    def _layer(self, name: str, kind: Any, x: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Apply a layer, which is made, with its weights, at the first call.

        Parameters
        ----------
        name : str
        kind : type
            Class of the layer.
        x : Tensor
        *args, **kwargs
            Of the class.
        training : bool, optional
            Handed to the layer when it is called.
        """
        how = {} if training is None else {"training": training}
        if name in self.layers:
            return self.layers[name](x, **how)
        layer = self.layers[name] = kind(*args, name=name, dtype="float32", **kwargs)
        layer.build(x.shape)
        layer.set_weights([self.weights[name][w.name] for w in layer.weights])
        return layer(x, **how)

    # --- backbone and pyramid ---------------------------------------------------------------------------------------

    def backbone(self, images: Any) -> list[Any]:
        """Return C2 .. C5: ResNet with the stride in the first 1x1 and biases before batch norm."""
        x = keras.layers.ZeroPadding2D(3)(images)
        x = self.kept["c1"] = self.conv_norm("conv1", "bn_conv1", x, strides=2)
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)
        features = []
        for stage, blocks in zip((2, 3, 4, 5), architecture(self.config).blocks):
            for i in range(blocks):
                strides = 2 if i == 0 and stage > 2 else 1
                x = self.block(f"{stage}{chr(ord('a') + i)}", x, strides=strides, project=i == 0)
                self.kept[f"c{stage}" if i == blocks - 1 else f"c{stage}.{i}"] = x
            features.append(x)
        return features

    def block(self, name: str, x: Any, *, strides: int, project: bool) -> Any:
        """Apply one bottleneck, ``res2a`` for example.

        Parameters
        ----------
        name : str
            Stage and letter: ``"2a"``.
        x : Tensor
        strides : int
            Of the first convolution and of the shortcut.
        project : bool
            Whether the shortcut is a convolution.
        """
        conv, norm = f"res{name}_branch", f"bn{name}_branch"
        y = self.conv_norm(f"{conv}2a", f"{norm}2a", x, strides=strides)
        y = self.conv_norm(f"{conv}2b", f"{norm}2b", y, padding="same")
        y = self.conv_norm(f"{conv}2c", f"{norm}2c", y, relu=False)
        if project:
            x = self.conv_norm(f"{conv}1", f"{norm}1", x, relu=False, strides=strides)
        return tf.nn.relu(keras.layers.Add()([y, x]))

    def pyramid(self, features: list[Any]) -> list[Any]:
        """Return P2 .. P6."""
        c2, c3, c4, c5 = features
        merged = [self.conv("fpn_c5p5", c5)]
        for level, c in ((4, c4), (3, c3), (2, c2)):
            above = keras.layers.UpSampling2D(2)(merged[0])
            merged.insert(0, keras.layers.Add()([above, self.conv(f"fpn_c{level}p{level}", c)]))
        outputs = [self.conv(f"fpn_p{level}", m, padding="same") for level, m in zip((2, 3, 4, 5), merged)]
        return [*outputs, keras.layers.MaxPooling2D(1, strides=2)(outputs[-1])]

    # --- heads ------------------------------------------------------------------------------------------------------

    def rpn(self, p: Any) -> tuple[Any, Any]:
        """Return logits (N, A, 2), background first, and deltas (N, A, 4) of one level."""
        shared = self.conv("rpn_conv_shared", p, padding="same", activation="relu")
        logits, deltas = self.conv("rpn_class_raw", shared), self.conv("rpn_bbox_pred", shared)
        return tf.reshape(logits, [len(p), -1, 2]), tf.reshape(deltas, [len(p), -1, 4])

    def classifier(self, pooled: Any) -> tuple[Any, Any]:
        """Return class logits (R, K) and deltas (R, K, 4) of RoI features (R, 7, 7, C)."""
        x = self.conv_norm("mrcnn_class_conv1", "mrcnn_class_bn1", pooled)
        x = self.conv_norm("mrcnn_class_conv2", "mrcnn_class_bn2", x)
        shared = tf.squeeze(x, [1, 2])
        deltas = self.dense("mrcnn_bbox_fc", shared)
        return self.dense("mrcnn_class_logits", shared), tf.reshape(deltas, [-1, self.config.num_classes, 4])

    def mask(self, pooled: Any) -> Any:
        """Return mask logits (R, 28, 28, K) of RoI features (R, 14, 14, C); matterport's layer ends in a sigmoid."""
        x = pooled
        for i in range(1, self.config.mask_head_convs + 1):
            x = self.conv_norm(f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}", x, padding="same")
        filters = self.weights["mrcnn_mask_deconv"]["kernel"].shape[2]
        x = self._layer("mrcnn_mask_deconv", keras.layers.Conv2DTranspose, x, filters, 2, strides=2, activation="relu")
        return self.conv("mrcnn_mask", x)

    # --- training ---------------------------------------------------------------------------------------------------

    def trainable(self) -> dict[str, Any]:
        """Return every variable that is trained, by ``layer/weight``."""
        return {f"{name}/{w.name}": w.value for name, layer in self.layers.items() for w in layer.trainable_weights}

    def gradients(self, tape: Any, loss: Any) -> dict[str, np.ndarray]:
        """Return d loss / d parameter under our names and in our layout."""
        variables = self.trainable()
        found = tape.gradient(loss, list(variables.values()), unconnected_gradients="zero")
        return from_matterport({name: tf.convert_to_tensor(g).numpy() for name, g in zip(variables, found)})
