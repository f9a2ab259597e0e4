"""How a network learns: the time loop, what fills `.grad`, and what applies it."""
