"""Load tests: profiles of users with objectives, run by Locust, and an open loop."""
