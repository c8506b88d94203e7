"""What a training run does besides moving weights."""
