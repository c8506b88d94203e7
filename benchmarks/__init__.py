"""Measurements, run by hand: the tests run their code, but time nothing."""
