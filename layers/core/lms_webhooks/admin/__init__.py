"""The admin API and its console."""
