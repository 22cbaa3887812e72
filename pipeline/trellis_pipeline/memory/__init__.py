"""Device memory: what each stage costs, how it is made to fit a budget, and what it really took."""
