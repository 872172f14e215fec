"""How any model is served; nothing here knows a model by name."""
