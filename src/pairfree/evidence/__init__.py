"""What a denoised image is worth: scores where there is a ground truth, evidence where there is none, and the
report.
"""
