"""Files into denoised files: planned, journalled, here or on a cluster."""
