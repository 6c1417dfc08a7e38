"""The whole system on one machine, and a demo of it. Nothing here is deployed."""
