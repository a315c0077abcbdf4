"""The way in: jobs that are posted, waited for and cancelled; both sides of it."""
