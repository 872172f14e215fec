"""The engine: answers items by models. It knows no transport, no BentoML and no Redis."""
