"""Networks: text encoders and denoisers."""
