"""The same job on general model servers: the same JSON in, the same history from Redis, the same naive graph."""
