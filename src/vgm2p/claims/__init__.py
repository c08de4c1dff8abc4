"""The claims as code: grids of runs and the records that they leave in `results/`."""
