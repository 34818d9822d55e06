"""What the parent decides, reuses and stores, in the order of the pipeline: each imports only stages further left.

prepare, train, export, plan, results, rounds, evaluate, bench, profile, report, choose, pairing, compare, environments, doctor,
quickstart
"""
