"""Pure: state in, styled lines out. One file or folder a screen."""
