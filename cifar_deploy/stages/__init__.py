"""What the parent decides, reuses and stores, in the order of the pipeline: each imports only stages further left.

prepare, app, train, add, export, plan, results, rounds, pack, evaluate, feeding, bench, profile, predict, machines, report,
bundle, importing, devices, track, choose, pairing, compare, comparison, environments, doctor, quickstart
"""
