"""Measurements that pages of the documentation quote; each is a command of its own."""
