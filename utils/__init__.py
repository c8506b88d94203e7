"""The ground floor: configuration, errors, drawing, the temperature guard."""
