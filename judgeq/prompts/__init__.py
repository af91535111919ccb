"""Text becomes token ids that know their characters; files become text."""
