"""matterport's Keras Mask R-CNN beside ours."""
