"""The parts of the detector, from the backbone to its detections."""
