"""What adapters cost: counted, timed and measured beside other implementations of the same update.

``python -m benchmarks --help`` lists the experiments; README.md tells what each one holds fixed.
"""
