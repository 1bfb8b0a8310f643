"""The definitions of examples/ on Apache Flink SQL, and whether they give the rows that Millpond gives: `make flink`.

cases     what is compared, and which differences are known
millpond  a server that replays an example; its final rows
cluster   the same events through a Flink cluster in one process; its rows
compare   row by row
page      docs/flink.md
"""
