"""The parts of deploy/check.py. Each returns a list of what is wrong, empty when nothing is."""
