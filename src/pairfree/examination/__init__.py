"""What a denoiser does to images of known noise: its error, what it invents, what it loses."""
