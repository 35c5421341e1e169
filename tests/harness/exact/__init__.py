"""Kill runs and resume them: what they leave must be what an uninterrupted run leaves, bit for bit."""
