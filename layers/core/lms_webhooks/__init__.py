"""What LMS Webhooks knows: events, webhooks, deliveries, and how to send them."""

__version__ = "0.1.0"
