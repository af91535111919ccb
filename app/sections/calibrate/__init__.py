"""How small is safe."""
