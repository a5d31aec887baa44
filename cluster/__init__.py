"""Run it: settings, instances, command line, Python client, swarm jobs."""
