"""How good a detector is, why, and the report that shows it."""
