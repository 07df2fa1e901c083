"""Where a training script meets us inside its own process: backward, DDP models, loaders and their iterators."""
