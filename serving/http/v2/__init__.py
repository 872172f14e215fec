"""The Open Inference Protocol over HTTP, under `/v2`."""

# Names the header that says how many bytes of a body, from its beginning, are JSON; binary tensors follow.
HEADER_LENGTH = b"inference-header-content-length"
