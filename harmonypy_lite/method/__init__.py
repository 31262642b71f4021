"""The paper: Harmony on small tables, in NumPy. No loop over cells is in here.

Read `loop.py` first. Where things are:

=============  =====================================================================================
`loop`         iterate { cluster; correct; converged? }
`formulas`     penalty, diversity, expected counts, the tau discount: one function per equation
`rules`        what makes a flavour (one `Rules` value), and the numbers that a run works with
`form`         in how many bits affinities are held, by how far penalties reach
`ridge`        the regression that estimates what batch explains in each cluster
`pooled`       the same for effects that vary smoothly over clusters (a Gaussian process)
`passes`       what the loop asks of the cells, and the sums that come back
`totals`       how sums travel (int64 fixed point), and the table O that the penalty reads
`apart`        the same where cells are held by many, who exchange sums once a round
`history`      the objective, and when to stop
`blocks`       which block a cell is in: a hash of its place
`start`        where the clusters start
`opening`      ... and what the first clustering sees
`model`        the sums that a run leaves of its cells for later ones
`trade`        how far batches mix, and what structure is kept: chooses between openings
`mapping`      cells of new levels beside a run (Symphony)
`votes`        labels of new cells from their neighbours
`doubt`        which cells are of no known type
`shifts`       ... after what a batch moves each type is taken off
=============  =====================================================================================

How the data flow. R, the soft assignment of N cells to K clusters, is never stored. R_i is a
function of the cell's direction u_i, its levels, the centroids Y, and the penalty table that was in
force when its block was last visited; whoever holds the cells (a class in `cells/`) keeps those
tables, forms R a tile at a time and returns sums over cells. To take a block out of O needs only
what the block put in, (K, B), not its R. So the same loop serves cells in memory, on disk, or on
other machines, and the per-iteration tables alone reproduce every corrected cell (`run.Replay`).

To add a flavour, write one `Rules` value; a backend, one class with the methods of `passes.Cells`;
a statistic, one pass, one record of sums and one kernel. In all three `loop.py` stays as it is.
"""
