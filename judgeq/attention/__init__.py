"""Attention as the model computes it, seen from inside: the only folder that touches transformers' registries."""
