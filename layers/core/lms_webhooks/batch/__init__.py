"""The batch function: the schedule, the sweep, and notifications."""
