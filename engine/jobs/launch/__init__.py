"""From what is asked to processes on the nodes: selection, plan, forecast, data, submission."""
