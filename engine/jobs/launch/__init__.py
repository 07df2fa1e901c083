"""Launch a job: device selection, plan, forecast, data, submission."""
