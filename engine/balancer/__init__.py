"""How to share a batch between unlike devices: step-time model, exact allocator, speed tracker, four policies, stragglers. Pure.

Every rank computes the same decision by itself. So ``decide`` uses only + - * / and comparisons on numbers that all ranks received
(builtin ``sum`` of floats rounds differently from Python 3.12 on, logarithms differ between C libraries): a last digit that differs
would let a rank take a step with other shares than its peers.
"""
