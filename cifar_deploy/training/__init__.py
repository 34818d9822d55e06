"""The parts of `workers.train`, which needs torch: what a step sees (batches), what it does (optimise), epoch after epoch (loop),
with others (ranks), and what is kept meanwhile (state, curves).
"""
