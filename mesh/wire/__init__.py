"""What bytes mean: canonical JSON, the messages, and the frames that carry them."""
