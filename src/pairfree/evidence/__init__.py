"""What a denoised image is worth: scores against a ground truth, evidence without one, and the report."""
