"""Annotations and images held against each other: what is wrong with a data set."""
