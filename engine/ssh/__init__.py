"""How nodes are reached: the only package that imports asyncssh."""

import logging

# Without a handler of the program, warnings would be printed to standard error, over the screen.
logging.getLogger(__name__).addHandler(logging.NullHandler())
