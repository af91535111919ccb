"""Attention as the model computes it, and its observers: the only folder that touches transformers' registries."""
