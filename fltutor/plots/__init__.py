"""Drawings: numbers in, a picture out. Nothing here computes an experiment."""
