"""The source of what `service/api/rows.py` loads, built where a C++ compiler is."""
