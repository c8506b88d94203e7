"""The ground floor: configuration, errors, metrics, drawing, the temperature guard."""
