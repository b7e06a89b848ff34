"""What a tutorial would build for this job: FastAPI, pydantic, redis.asyncio and the naive graph in ONNX Runtime."""
