"""What moves a model's weights and what that leaves behind."""
