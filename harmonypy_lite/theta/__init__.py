"""What theta gains and costs: runs that differ in one parameter, measured and judged.

=============  =====================================================================================
`runs`         runs on the same cells that share the arranged cells and the start
`measure`      mixing, structure inside batches, biology and movement of each
`sweep`        the runs of a sweep, and its table
`verdict`      the rule: which value to take, or why none
`null`         runs over random batches; the test of the input
`distortion`   how unevenly distances inside batches changed
`diagnostics`  what one run did, and the over-correction alarm
`results`      what the public functions return
=============  =====================================================================================

Arrays only; `tl` is the part that knows AnnData.
"""
