"""docker-compose.yml, run for real: built, brought up, killed one by one under load, rolled, brought down.

    python -m deploy.stack     needs a Docker engine that answers; one line of JSON comes last, and 0 if everything held

docker.py    the engine, and what it is asked
compose.py   one stack of its own project and ports
load.py      requests without end, in the background, and what came of them
trials.py    a container killed, a bundle rolled
watched.py   what Prometheus knows
figures.py   what was seen, and what has to hold
"""
