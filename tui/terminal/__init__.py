"""Terminal output: the driver, ASCII fallback, value formats and the sanitizer of remote text."""
