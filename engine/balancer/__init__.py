"""How to share a batch between unlike devices: a step-time model, an exact allocator, a tracker and four policies. Pure.

What every rank computes alike: only + - * / and comparisons on numbers all ranks received (builtin ``sum`` rounds differently from
Python 3.12 on, logarithms differ between C libraries), so that no rank ever takes a step with other shares than its peers.
"""
