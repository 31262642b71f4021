"""The parts of compare_mapping.py: one process for each program and data set."""
