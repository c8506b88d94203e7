"""Image files: found, probed, decoded, cached."""
