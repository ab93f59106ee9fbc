"""A small OpenAI-compatible server without a socket: embeddings, chat completions, responses."""
