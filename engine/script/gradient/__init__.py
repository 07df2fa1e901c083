"""The gradient of the whole batch: cuts of a batch, what a loss is, its factor, and the slot inside DDP's last bucket."""
