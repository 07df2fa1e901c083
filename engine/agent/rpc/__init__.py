"""Answers to what a control centre asks the agent, one JSON object each."""
