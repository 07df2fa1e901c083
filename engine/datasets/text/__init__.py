"""Texts as rows of token ids, for classification and language models."""
