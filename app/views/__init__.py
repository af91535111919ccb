"""The parts of the page: each builds its components and wires what happens inside it."""
