"""What knows BentoML and its quirks."""
