"""torchvision's Mask R-CNN beside ours."""
