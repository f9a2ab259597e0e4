"""What a part of the engine declares about itself (constants, kinds, units), and schemas of files made of it."""
