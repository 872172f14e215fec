"""The Open Inference Protocol (v2), whatever transport carries it: tensors in, tensors out, for every model.

Source: https://github.com/kserve/open-inference-protocol, with Triton's extensions for binary tensors, statistics,
model configuration and model repository.
"""
