"""Images in, detections out, files written."""
