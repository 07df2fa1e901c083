"""Sentence pairs of two languages as token ids."""
