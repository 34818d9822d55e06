"""Which network to ship: limits, candidates, picks, and the answer in words. A pure function of results."""
