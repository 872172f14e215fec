"""Speed: measured against something else in the same run, and printed as ratios."""
