"""Models of the objective: mathematics on arrays, no study in sight."""
