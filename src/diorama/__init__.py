"""Diorama: an open, trainable, self-hosted successor to Sora."""
