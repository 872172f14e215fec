"""The Open Inference Protocol (v2) over gRPC, on the engine that answers HTTP, too.

Nothing imports this package unless the server has a port for gRPC: importing grpc takes time.
"""
