"""The parts of `bench_speed.py`.

`contenders` says how each program is called, `worker` runs one of them in a process of its own,
`workloads` makes the data, `floor` measures what the processor can do, `commands` times whole
programs, `quality` scores results, `session` puts the runs in their order, `figures` computes from
them what `report` and `plot` show.
"""
