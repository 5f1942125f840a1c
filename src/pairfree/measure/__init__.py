"""What the noise of images is like: its level, its growth with the brightness, its correlation, its distribution."""
