"""What editors wrote down before localmem was there, read into events: each once, whenever it runs."""
