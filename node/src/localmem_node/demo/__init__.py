"""`localmem demo`: the main job, on real input, with real processes."""
