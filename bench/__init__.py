"""Programs that measure: each prints numbers, and the same run's baseline beside them."""
