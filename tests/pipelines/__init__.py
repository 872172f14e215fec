"""The pipelines' own steps, run in containers: `make pipelines`."""
