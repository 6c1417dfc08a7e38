"""The dispatcher function: new events, real-time and batch."""
