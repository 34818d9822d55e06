"""The verbs, in the order of the road: prepare, train, export, plan, evaluate, report. None imports another."""
