"""Ways to add up client vectors. Each one is a ``sum_protocol``."""
