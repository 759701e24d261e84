"""localmem as a server of the Model Context Protocol, and the pump for clients that speak stdio."""
