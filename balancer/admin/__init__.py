"""The admin listener: what an instance shows of itself, and its routes by REST."""
