"""Run a framework's Mask R-CNN beside ours, from the same weights, and compare every named tensor."""
