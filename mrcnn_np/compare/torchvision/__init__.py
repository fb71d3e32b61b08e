"""torchvision's Mask R-CNN beside ours.

- ``model``: its network with our parameters, and every tensor of a detection under our names
- ``training_steps``: both trained side by side: losses, gradients, parameters
- ``their_training``: its losses for anchors and RoIs that are given, its optimiser
"""
