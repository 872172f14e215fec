"""End-to-end tests of the image and of the pod: `make e2e`."""
