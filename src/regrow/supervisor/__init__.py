"""The supervisor: the small process that alone starts, stops and switches one service.

Standard library only, and nothing of regrow outside this folder, so that it can be read in one sitting and
so that no fault of the daemon can reach it. It is run by path (`python -I -S .../supervisor/__main__.py`).
"""
