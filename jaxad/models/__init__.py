"""Networks: flax.linen modules without losses, keys or configs."""
