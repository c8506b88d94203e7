"""What the readers of all layouts share: folders, boxes, names, the formats' own files."""
