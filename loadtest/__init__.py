"""Load tests: profiles of users with objectives, run by Locust, and load in an open loop."""
