"""Language models that others run: fine-tuned and asked through the API of OpenAI, or of a server that follows it."""
