"""Training in C++: GRU and AUGRU, target attention, lookups and the auxiliary loss, forward and backward.

Optional: built by setup.py where there is a compiler, and used for float32 on the CPU. The nets' plain torch code is
what each of them is tested against.
"""
