"""Prompts to train and to measure on, from many sources, each the same on every run."""
