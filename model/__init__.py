"""The detector and its training; knows nothing of data sets on disk."""
