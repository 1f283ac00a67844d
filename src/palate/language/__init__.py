"""Text encoders, language models and prompts."""
