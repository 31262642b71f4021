"""What theta gains and costs: runs that differ in one parameter, measured and judged.

=============  =====================================================================================
`runs`         runs on the same cells that share the arranged cells and the start
`measure`      mixing, structure inside batches, biology and movement of each
`results`      what the public functions return
=============  =====================================================================================

Arrays only; `tl` is the part that knows AnnData.
"""
