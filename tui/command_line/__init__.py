"""The command line: arguments, verbs, headless output. Starts without Textual."""
