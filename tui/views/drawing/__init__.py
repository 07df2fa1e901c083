"""Styled pieces, curves and sorting that all views share."""
