"""HTTP: what a request may bring, and what it may cost."""
