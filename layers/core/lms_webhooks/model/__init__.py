"""What things are, and what follows from them. Pure: no clock, no network, no AWS."""
