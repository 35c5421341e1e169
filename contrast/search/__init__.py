"""Nearest-neighbour search by inner product: exact, and approximate by FAISS."""
