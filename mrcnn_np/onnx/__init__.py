"""The network as an ONNX graph: a file for each module of the network, which adds the nodes that do the same.

``graph`` adds nodes (``g.Conv(x, w)`` is a node Conv); ``molding`` to ``pasting`` are the steps, in the order of the
data; ``export`` wires them, like ``model.py``; ``support`` says which fields of a configuration the graph follows.
"""
