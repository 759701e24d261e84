"""Synchronisation with a hub: journal, transport, and the agent that runs a session over them."""
