"""The profiles and inputs of the load tests for k6: see load.js beside this file."""
