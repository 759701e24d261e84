"""What may be remembered: everything passes here before it touches the disk."""
