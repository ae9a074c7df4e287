"""Building blocks of networks: attention, embeddings, conditioning."""
