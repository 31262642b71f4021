"""Harmony on cells that may not leave the sites that hold them: sites exchange files of sums.

A run is a folder of messages, which any transport may carry. `init` writes the plan; each site then
answers the latest combined message with sums over its own cells (`local`), and `combine` adds the
answers of all sites into the next one; after the last, `apply` moves each site's cells at home.
Where things are:

============  ======================================================================================
`message`     one file: a JSON header and arrays; what it holds is checked before it is believed
`exchange`    the folder: whose turn it is, and whether a message is the one that is due
`plan`        what all agree on before the first sum
`sums`        numbers as integers, which add exactly in any order and under masks
`masks`       pairwise masks: a site's sums look like noise, all sites' sums are unchanged
`start`       k-means from sums: nobody sees a cell
`site`        the site's share of Harmony
`tables`      what it knows of its clusters, and remembers
`center`      what becomes of the sums: the next question
`pca`         both sides of one PCA of all sites' cells
`attendance`  a site that goes from message to message
`steps`       what the commands do
============  ======================================================================================

What holds. No row of a cell, and no number that belongs to one cell, is written into a message:
messages hold the names and sizes of batches, and sums over the cells of a site. The sums of all
sites are exact integers, so that masks change no bit of the result. With `min_mass` 0 the result is
that of the pooled run with ``sync="batch"``, the same blocks and the same start, to rounding.

What does not. This is no anonymity. A cluster in which a site has little more than one cell tells
nearly where that cell is (`min_mass` withholds such clusters), sums that are repeated over rounds
tell more than one of them, and the messages are checked for damage and mix-ups, not signed. Masks
hide a site's sums from those who do not know the secrets; they do not hide the sums of all, and
all other sites together can subtract themselves from these.

Batches must be nested in sites: one column, whose levels are at one site each. A covariate that
sites share, such as a chemistry, is refused.
"""
