"""What is told of a running server: metrics, traces and logs."""
