"""The Open Inference Protocol (v2) over gRPC, on the engine that answers HTTP, too.

Nothing but its settings is imported unless the server has a port for gRPC: importing grpc takes time.
"""
