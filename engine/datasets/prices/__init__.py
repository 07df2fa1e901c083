"""Daily and monthly closing prices: read, windowed, multiplied."""
