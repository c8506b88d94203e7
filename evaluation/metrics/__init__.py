"""Detection metrics over plain arrays; it knows no model and no data set."""
