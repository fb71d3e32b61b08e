"""A graph of ONNX nodes while it is being built.

``y = g.Conv(x, w, strides=[2, 2])`` adds a node of the type Conv and returns the name of its output, so that a function
that builds a part of the graph reads like one that computes it. Where a node wants a tensor, a number or an array may
stand: it becomes a constant. Whole numbers are int64 and fractions float32, as Python has them; arrays keep their type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..errors import UserError

#: the version of the standard operators; onnxruntime 1.12 (2022) and later have it
OPSET, IR = 17, 8
#: a file of protobuf cannot be larger
MOST_BYTES = 2**31 - 1

#: the name of a tensor in the graph
Tensor = str
#: what a node may be given
Operand = Any


def require_onnx() -> Any:
    """Import the package ``onnx``; a ``UserError`` says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"writing ONNX needs the package onnx, which cannot be imported ({error}): pip install 'mrcnn-np[onnx]'"
        ) from error
    return onnx


class Graph:
    """Nodes in the order in which they run, constants, and the network's parameters.

    Parameters
    ----------
    params : mapping of str to ndarray
        All of the network; those that a node asks for become initializers of the same name, in float32.
    """

    def __init__(self, params: Mapping[str, np.ndarray]) -> None:
        self.onnx = require_onnx()
        self.params = params
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.used: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._part = ""
        self._count = 0

    def __getattr__(self, op: str) -> Callable[..., Any]:
        """Return a function that adds a node of the type ``op``."""
        if not op[:1].isupper():
            raise AttributeError(op)
        return partial(self.node, op)

    def node(self, op: str, *inputs: Operand, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node.

        Parameters
        ----------
        op : str
            Its type: ``"Conv"``.
        *inputs : str, number or array
            Tensors of the graph by name, or constants.
        name : str
            Of the node and of its (first) output; by default the part and a number.
        outputs : int
            How many it has.
        **attributes
            As ONNX names them.

        Returns
        -------
        str, or tuple of str
            The outputs.
        """
        self._count += 1
        first = name or f"{self._part}{op}_{self._count}"
        names = [first, *(f"{first}.{k}" for k in range(1, outputs))]
        given = [self.tensor(x) for x in inputs]
        self.nodes.append(self.onnx.helper.make_node(op, given, names, name=first, **attributes))
        return first if outputs == 1 else tuple(names)

    def named(self, x: Tensor, name: str) -> Tensor:
        """Call a tensor, the output of the last node, by the name that it has in ``MaskRCNN.trace``."""
        node = self.nodes[-1]
        if list(node.output) != [x]:
            raise ValueError(f"{x} is not the output of the last node, {node.name}")
        node.output[0] = name
        return name

    def tensor(self, x: Operand) -> Tensor:
        """Return the name of a tensor: ``x`` itself, or a new constant."""
        if isinstance(x, str):
            return x
        array = np.asarray(x)
        if array.dtype == np.float64 and not isinstance(x, np.ndarray | np.float64):
            array = array.astype(np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._initializer(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def parameter(self, name: str, axes: tuple[int, ...] | None = None) -> Tensor:
        """Return a parameter of the network, under its own name.

        Parameters
        ----------
        name : str
        axes : tuple of int, optional
            The order that its axes get, where ONNX has another one.
        """
        if name not in self.initializers:
            array = self.params[name] if axes is None else self.params[name].transpose(axes)
            self._initializer(name, np.ascontiguousarray(array, np.float32))
            self.used.add(name)
        return name

    def _initializer(self, name: str, array: np.ndarray) -> Tensor:
        self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Let the names of nodes that have none of their own begin with ``name``."""
        before, self._part = self._part, f"{name}/"
        yield
        self._part = before

    def cast(self, x: Operand, dtype: type) -> Tensor:
        """Convert to ``dtype``; towards zero if that is whole numbers."""
        kind: Tensor = self.Cast(x, to=self._kind(dtype))
        return kind

    def zeros(self, shape: Operand, dtype: type = np.float32, *, value: float = 0) -> Tensor:
        """Return a tensor filled with one number, 0 or another.

        Parameters
        ----------
        shape : str or array
        dtype : type
        value : float
        """
        filling = self.onnx.numpy_helper.from_array(np.full(1, value, dtype))
        tensor: Tensor = self.ConstantOfShape(shape, value=filling)
        return tensor

    def side(self, x: Tensor, axis: int) -> Tensor:
        """Return the length of one axis as a tensor of shape (1,), int64."""
        side: Tensor = self.Shape(x, start=axis, end=axis + 1)
        return side

    def arange(self, count: Tensor, dtype: type = np.int64) -> Tensor:
        """Return 0, 1 ... ``count`` - 1, where ``count`` has the shape (1,)."""
        end = self.Squeeze(count, [0])
        end = end if dtype is np.int64 else self.cast(end, dtype)
        numbers: Tensor = self.Range(np.array(0, dtype), end, np.array(1, dtype))
        return numbers

    def cut(self, x: Tensor, start: int, end: int, axis: int) -> Tensor:
        """Return ``x[..., start:end, ...]``.

        Parameters
        ----------
        x : str
        start, end : int
        axis : int
        """
        part: Tensor = self.Slice(x, [start], [end], [axis])
        return part

    def for_each(self, function: Callable[..., Tensor], sequences: list[tuple[Tensor, type]], dtype: type) -> Tensor:
        """Call ``function`` for the rows of tensors, one after the other, and stack what it returns.

        Parameters
        ----------
        function : callable
            Is given a row of each sequence, adds nodes, and returns a tensor. It may use all tensors of the graph.
        sequences : list of (str, type)
            Equally long, at least one row; and of what type they are.
        dtype : type
            Of the result.

        Returns
        -------
        str
            Output of a node Scan.
        """
        rows = [f"{name}.row" for name, _ in sequences]
        kinds = [self.onnx.helper.make_tensor_value_info(r, self._kind(t), None) for r, (_, t) in zip(rows, sequences)]
        body = self._body(lambda: function(*rows), kinds, dtype)
        stacked: Tensor = self.Scan(*(name for name, _ in sequences), body=body, num_scan_inputs=len(sequences))
        return stacked

    def choose(
        self, condition: Tensor, then: Callable[[], Tensor], otherwise: Callable[[], Tensor], dtype: type
    ) -> Tensor:
        """Compute one of two things only.

        Parameters
        ----------
        condition : str
            One truth value.
        then, otherwise : callable
            Add nodes and return a tensor. They may use all tensors of the graph.
        dtype : type
            Of the result.

        Returns
        -------
        str
            Output of a node If.
        """
        branches = {"then_branch": self._body(then, [], dtype), "else_branch": self._body(otherwise, [], dtype)}
        result: Tensor = self.If(condition, **branches)
        return result

    def _body(self, function: Callable[[], Tensor], inputs: list[Any], dtype: type) -> Any:
        """Return a graph within this one, of the nodes that ``function`` adds."""
        outside, self.nodes = self.nodes, []
        result = function()
        nodes, self.nodes = self.nodes, outside
        last = self.onnx.helper.make_tensor_value_info(result, self._kind(dtype), None)
        return self.onnx.helper.make_graph(nodes, f"{self._part}body_{self._count}", inputs, [last])

    def input(self, name: str, dtype: type, shape: tuple[str | int, ...]) -> Tensor:
        """Add an input.

        Parameters
        ----------
        name : str
        dtype : type
        shape : tuple
            An axis of any length has a name.
        """
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, self._kind(dtype), shape))
        return name

    def output(self, x: Tensor, name: str, dtype: type, shape: tuple[str | int, ...]) -> None:
        """Add an output.

        Parameters
        ----------
        x : str
            The tensor.
        name : str
            What it is to be called.
        dtype : type
        shape : tuple
            An axis of any length has a name.
        """
        if x != name:
            self.Identity(x, name=name)
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self._kind(dtype), shape))

    def _kind(self, dtype: type) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def to_bytes(self, name: str, documentation: str, metadata: Mapping[str, str]) -> bytes:
        """Put the graph into a model, have ONNX check it, and return the file.

        Parameters
        ----------
        name : str
            Of the graph.
        documentation : str
        metadata : mapping of str to str
            Kept in the file for whoever runs it.

        Raises
        ------
        UserError
            The file would be larger than protobuf allows.
        """
        size = sum(len(tensor.raw_data) for tensor in self.initializers.values())
        if size > MOST_BYTES - 2**24:
            raise UserError(f"the weights have {size:,} bytes; a file of ONNX holds at most {MOST_BYTES:,}")
        helper = self.onnx.helper
        weights = list(self.initializers.values())
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, weights, documentation)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR, producer_name="mrcnn-np")
        helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
