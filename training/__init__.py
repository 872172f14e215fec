"""How each model is made: fit or load, export to ONNX, check, evaluate, save to the BentoML model store.

`python -m training [model ...]` does so. What all models share lies here; beside it each has a folder, or one module.
Nothing of this package is needed to serve.
"""
