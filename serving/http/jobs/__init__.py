"""The routes of background jobs, in the form that BentoML's clients know as tasks."""
