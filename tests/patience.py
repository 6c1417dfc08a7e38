"""How long a test waits for what should come."""

PATIENCE_SECONDS = 90
"""For what comes at once, or within seconds, on a machine with nothing else to do. It ends only what hangs: a
busy machine may take half a minute for a page. It costs nothing when what is awaited comes."""
