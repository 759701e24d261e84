"""What an editor starts for each event: a command that hands its input to the daemon and ends."""
