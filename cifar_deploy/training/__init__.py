"""The parts of `stages.train`: what a step sees, what it changes, and what is kept of it. All of it needs torch."""
