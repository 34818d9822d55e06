"""A device by ssh: one connection, over which home asks what is there, sends files, starts a pack, and takes its results.

On the device runs `sh`, and in it first the program `there`, then the pack, whose `home` is the other end. At home a `session`
speaks with them over a `transport`. `wheels` are the packages that travel; `inventory` says which devices there are.
"""
