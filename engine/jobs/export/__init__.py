"""The verb ``export``: a job as the files of a scheduler."""
