"""The admin API: who asks, what they may ask, and what they are answered."""
