"""Prompts to states: the compact encoder, UMT5 and T5 behind the same interface, and the rewriting of prompts. Knows nothing of worlds or pixels."""
