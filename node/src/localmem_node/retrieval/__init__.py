"""Finding events: the encoder, the lexical and the vector index, and their ranking."""
