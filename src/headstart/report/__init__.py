"""One self-contained HTML file a run."""
