"""What the noise of images is like, which method fits, and what nobody can tell from them."""
