"""Who holds the cells. A backend answers the passes of `method.passes` with sums over cells."""
