"""What was measured, put into words and pictures; it knows values only, no model and no data."""
