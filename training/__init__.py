"""How models are made: fit or load, export to ONNX, compare, evaluate, save to the BentoML model store.

`python -m training [model ...]` does all of it. Each model has a module or a folder of its own; the other modules are
what models share. Serving needs nothing of this package.
"""
