"""How a sender of webhooks should take what receivers do to it: a table, and what runs a sender against it.

README.md says how.
"""
