"""Tests of the library and the doors of unchanged scripts."""
