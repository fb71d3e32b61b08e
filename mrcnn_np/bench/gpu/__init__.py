"""Speed on a GPU: what is predicted from counted work, what was measured, and PyTorch's on the same card.

``python -m mrcnn_np.bench.gpu.measure`` (``make bench-gpu``) measures, where there is a card, and rewrites docs/gpu.md;
``python -m mrcnn_np.bench.gpu.predict`` counts and needs none, but the compilers of the extra ``cuda``.
"""
