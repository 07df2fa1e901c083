"""What most training scripts want around their loop: options, one update, results, augmentation, exact metrics."""
