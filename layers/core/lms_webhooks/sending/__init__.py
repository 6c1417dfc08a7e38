"""Send one POST, safely."""
