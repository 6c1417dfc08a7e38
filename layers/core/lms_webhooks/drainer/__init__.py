"""The drainer function: what is pending, until it is delivered or ends."""
