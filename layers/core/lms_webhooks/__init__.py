"""What LMS Webhooks knows: events, webhooks, deliveries, and how to send them."""

import gc

# Python looks for garbage after every 2,000 new objects. Imports make hundreds of thousands and no garbage,
# so the looking is a twentieth of a cold start; a delivery leaves little for it either.
gc.set_threshold(50_000)

__version__ = "0.1.0"
