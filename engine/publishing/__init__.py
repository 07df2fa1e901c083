"""Results as files to hand in: tables and charts as Markdown, HTML, LaTeX, CSV and pictures, each figure with its source."""
