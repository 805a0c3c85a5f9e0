"""The named explorers, one module a notebook: a compute function and its sliders."""
