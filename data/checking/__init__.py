"""Annotations and images compared: what is wrong with a data set."""
