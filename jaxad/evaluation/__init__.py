"""From the scores of a split to metrics, tables, figures and a report."""
